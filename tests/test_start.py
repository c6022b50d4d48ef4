"""What a start loads: nothing that its flags don't ask for, as every module is time until the first answer."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.program import Program, environment

ON_REQUEST = {
    "memcache_kv.api",
    "memcache_kv.server.activation",
    "memcache_kv.server.daemon",
    "memcache_kv.server.admin",
    "memcache_kv.server.memory_file",
    "memcache_kv.config.memcached_conf",
    "memcache_kv.server.health",
    "memcache_kv.server.probes",
    "memcache_kv.stats.metrics",
    "memcache_kv.protocol.admin.site",
    "memcache_kv.auth.admin_token",
    "memcache_kv.config.license",
    "memcache_kv.observe.audit",
    "memcache_kv.journal",
    "memcache_kv.journal.tools.cli",
    "memcache_kv.journal.tools.report",
    "memcache_kv.journal.lifecycle",
    "memcache_kv.journal.tools.memcached_source",
    "memcache_kv.progress",
    "memcache_kv.auth.passwords",
    "memcache_kv.config.suboptions",
    "memcache_kv.protocol.dialect",
    "memcache_kv.observe.operation_log",
    "memcache_kv.protocol.http.framing",
    "memcache_kv.protocol.line.framing",
    "memcache_kv.protocol.text.simple",
    "memcache_kv.datafile.lines",
    "memcache_kv.server.discovery",
    "memcache_kv.server.preload",
    "memcache_kv.server.tls",
    "memcache_kv.server.udp",
    "_hashlib",
    "_ssl",
    "bcrypt",
    "datetime",
    "encodings.idna",
    "gzip",
    "h11",
    "hashlib",
    "hmac",
    "logging",
    "msgspec",
    "rich",
    "shutil",
    "ssl",
    "statistics",
    "syslog",
    "tomllib",
    "uuid",
    "zstandard",
}
PROFILED = {"PYTHONPROFILEIMPORTTIME": "1"}
"""Has the interpreter write a line for each module that it loads."""


def named_in(said: bytes) -> set[str]:
    return set(re.findall(r"^import time: .*\| +(\S+)$", said.decode(), re.MULTILINE))


def loaded_by_the_interpreter() -> set[str]:
    """What is there before the program, which depends on how it is installed."""
    command = [sys.executable, "-c", "pass"]
    return named_in(subprocess.run(command, env=environment(**PROFILED), capture_output=True, check=True).stderr)


def loaded(*flags: str) -> set[str]:
    """What a server with these flags loads until it has answered and ended."""
    with Program("-p", "0", "-l", "127.0.0.1", *flags, **PROFILED) as program:
        assert program.ask(b"version\r\n").startswith(b"VERSION ")
        assert program.end() == 0
    found = named_in(program.said)
    assert "memcache_kv.server.worker" in found
    return found - loaded_by_the_interpreter()


def test_a_plain_server_loads_none_of_what_is_for_single_flags() -> None:
    assert not loaded("-m", "100", "-c", "100") & ON_REQUEST


@pytest.mark.parametrize(
    ("flags", "module"),
    [
        (("--journal", "{directory}/journal"), "memcache_kv.journal.lifecycle"),
        (("-Y", "{directory}/users"), "memcache_kv.auth.passwords"),
        (("--config", "{directory}/config"), "tomllib"),
        (("--config", "{directory}/memcached.conf"), "memcache_kv.config.memcached_conf"),
        (("-e", "{directory}/memory"), "memcache_kv.server.memory_file"),
        (("--preload", "{directory}/data"), "memcache_kv.server.preload"),
        (("--cluster-node", "127.0.0.1:11211"), "memcache_kv.server.discovery"),
        (("--line-listen", "0"), "memcache_kv.protocol.line.framing"),
        (("--simple-listen", "0"), "memcache_kv.protocol.text.simple"),
        (("--http-listen", "0"), "h11"),
        (("--admin-listen", "0"), "memcache_kv.server.admin"),
        (("--operation-log", "{directory}/operations"), "memcache_kv.observe.operation_log"),
        (("-o", "track_sizes"), "memcache_kv.config.suboptions"),
    ],
)
def test_a_flag_loads_what_it_is_for_before_the_server_listens(
    tmp_path: Path, flags: tuple[str, ...], module: str
) -> None:
    assert module in ON_REQUEST
    (tmp_path / "users").write_text("ann:secret\n")
    (tmp_path / "data").write_text("a 1\n")
    (tmp_path / "config").write_text("memory-limit = 100\n")
    (tmp_path / "memcached.conf").write_text("-m 100\n")
    with Program("-p", "0", "-l", "127.0.0.1", *(flag.format(directory=tmp_path) for flag in flags), **PROFILED) as p:
        assert module in named_in(p.said)


def test_help_shows_the_flags_as_wide_as_the_terminal() -> None:
    """The flags are tried out with a width of their own first, so that nobody has to ask for the terminal's."""
    wide, narrow = (
        subprocess.run(
            [sys.executable, "-m", "memcache_kv", "--help"],
            env=environment(COLUMNS=columns),
            capture_output=True,
            check=True,
        ).stdout.decode()
        for columns in ("150", "60")
    )
    assert max(map(len, wide.splitlines())) > 120
    assert len(narrow.splitlines()) > len(wide.splitlines())
