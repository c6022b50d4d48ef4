"""Programs that the fixtures can run in place of the server in the tests' process."""

import os
import sys
from pathlib import Path

import pytest

from tests.integration.wire import MEMCACHED, ServerUnavailable, server_command

OURS_PROGRAM = str(Path(sys.executable).with_name("memcache-kv"))


def memcached_program() -> str:
    """Return the path of memcached; skip the test where there is none."""
    try:
        return server_command(MEMCACHED)[0]
    except ServerUnavailable as reason:
        if os.environ.get("CI"):
            pytest.fail(str(reason))
        pytest.skip(str(reason))
