"""Programs that fork while they have a server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.program import PATIENCE_SECONDS, environment

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.mark.parametrize("how", ["os.fork", "multiprocessing"])
def test_a_child_has_none_of_its_parents_servers_and_may_start_its_own(tmp_path: Path, how: str) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.api.fork_program", str(tmp_path), how]
    ended = subprocess.run(command, capture_output=True, env=environment(), timeout=PATIENCE_SECONDS, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
