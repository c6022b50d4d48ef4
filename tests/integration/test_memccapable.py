"""memccapable, the program of libmemcached that checks what a server can, in text and binary against both servers."""

import os
import re
import shutil
import subprocess

import pytest

from tests.integration.known_differences import has_rewritten_parser
from tests.integration.wire import RunningServer

REFUSED_SINCE = {"ascii delete", "ascii delete noreply"}
"""These expect that words behind the key of `delete` are an error; memcached 1.6.45 ignores them, and so do we."""

TEXT_CHECKS, BINARY_CHECKS = 27, 27
"""How many there are in Debian's libmemcached-tools 1.1."""

RESULT = re.compile(r"(?P<name>(?:ascii|binary) [a-z]+(?: noreply)?) {2,}(?P<pass>\[pass\])?")
"""A check as it stands on the standard output: a failed one leaves only its name there."""


@pytest.fixture(scope="module")
def memccapable() -> str:
    """The program."""
    found = shutil.which("memccapable")
    if found is not None:
        return found
    reason = "memccapable is not installed: it is in Debian's libmemcached-tools"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def results_of(program: str, server: RunningServer, *flags: str) -> tuple[dict[str, bool], int]:
    """Each check and whether it passed, and the exit status."""
    done = subprocess.run(
        [program, "-h", server.host, "-p", str(server.port), "-t", "30", *flags],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    results = {match["name"]: match["pass"] is not None for match in RESULT.finditer(done.stdout)}
    assert results, done.stdout + done.stderr
    return results, done.returncode


def refused(server: RunningServer) -> set[str]:
    """The checks that fail on memcached of the server's release as well."""
    return REFUSED_SINCE if has_rewritten_parser(server) else set()


def failed(results: dict[str, bool]) -> set[str]:
    """The checks that did not pass."""
    return {name for name, passed in results.items() if not passed}


def test_the_checks_of_text_pass(server: RunningServer, memccapable: str) -> None:
    results, status = results_of(memccapable, server, "-a")
    assert failed(results) == refused(server)
    assert (len(results), {name.split()[0] for name in results}) == (TEXT_CHECKS, {"ascii"})
    assert status == (1 if refused(server) else 0)


def test_the_checks_of_binary_pass(server: RunningServer, memccapable: str) -> None:
    results, status = results_of(memccapable, server, "-b")
    assert failed(results) == set()
    assert (len(results), {name.split()[0] for name in results}) == (BINARY_CHECKS, {"binary"})
    assert status == 0


def test_the_checks_of_both_pass_one_after_the_other(server: RunningServer, memccapable: str) -> None:
    results, _ = results_of(memccapable, server)
    assert failed(results) == refused(server)
    assert len(results) == TEXT_CHECKS + BINARY_CHECKS
