"""Programs whose threads are gevent's greenlets."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from memcache_kv.compiled import HAS_GIL
from tests.program import PATIENCE_SECONDS, environment

pytestmark = pytest.mark.skipif(
    find_spec("gevent") is None and not (os.environ.get("CI") and HAS_GIL), reason="gevent is not installed"
)


def said_by(*command: str) -> tuple[int, str, str]:
    ended = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


def test_a_program_of_greenlets_has_servers_with_real_threads(tmp_path: Path) -> None:
    assert said_by("-m", "tests.api.greenlet_program", str(tmp_path)) == (0, "", "")


PATCHES_AFTERWARDS = """
import memcache_kv
from gevent import monkey
{before}
monkey.patch_all()
for kind in ("Server", "Store"):
    try:
        with getattr(memcache_kv, kind)() as part:
            getattr(part, "store", part).set("key", b"value")
            print("works")
    except RuntimeError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("before", "said"),
    [("", "works"), ("memcache_kv.Server", "call gevent's `monkey.patch_all` before memcache_kv is first used")],
    ids=["not yet used", "used"],
)
def test_a_program_may_patch_until_it_first_uses_the_package(before: str, said: str) -> None:
    assert said_by("-c", PATCHES_AFTERWARDS.format(before=before)) == (0, f"{said}\n" * 2, "")


def test_without_gevent_the_modules_are_the_originals() -> None:
    code = (
        "import threading, socket, time; from memcache_kv import unpatched; "
        "print(unpatched.threading is threading, unpatched.socket is socket, unpatched.time is time, "
        "unpatched.time.monotonic is time.monotonic, unpatched.COPIED)"
    )
    assert said_by("-c", code) == (0, "True True False False frozenset({'time'})\n", "")
