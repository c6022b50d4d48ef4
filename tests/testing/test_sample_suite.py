"""The sample suite of docs/examples/caching, on each of the servers that it can run on."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest

from tests.program import environment

SUITE = Path(__file__).resolve().parent.parent.parent / "docs" / "examples" / "caching"
NEEDED = {"memcached": "memcached", "redis": "redis-server", "fakeredis": None}
PLUGINS = {"memcache_kv": ["memcache_kv.testing.plugin"], "redis": ["pytest_redis.plugin"]}
MODULES = {"redis": "pytest_redis", "fakeredis": "fakeredis", "memcached": "pymemcache"}


def passed(server: str) -> int:
    """Run the suite; return how many tests have passed."""
    plugins = [word for name in PLUGINS.get(server, ()) for word in ("-p", name)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugins, "--server", server],
        cwd=SUITE, env=environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout
    return int(found[1])


def test_the_sample_suite_passes_on_our_fixture() -> None:
    assert passed("memcache_kv") == 200


@pytest.mark.long
@pytest.mark.parametrize("server", NEEDED)
def test_the_sample_suite_passes_on_what_it_is_compared_with(server: str) -> None:
    program = NEEDED[server]
    if find_spec(MODULES[server]) is None:
        unavailable(f"{MODULES[server]} is not installed (extra checks)")
    if program and shutil.which(os.environ.get("MEMCACHED", program) if server == "memcached" else program) is None:
        unavailable(f"{program} is not installed")
    assert passed(server) == 200


def unavailable(reason: str) -> NoReturn:
    """Skip, or fail where CI demands that everything is there."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
