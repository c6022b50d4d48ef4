"""Turns at a server that several processes share."""

import select
import subprocess
import sys
from pathlib import Path

from memcache_kv.testing.turns import SharedTurns
from tests.testing.wires import SOON_SECONDS

OTHER = """
import pathlib, sys
from memcache_kv.testing.turns import SharedTurns
print("up", flush=True)
with SharedTurns(pathlib.Path(sys.argv[1])):
    print("in")
"""


def test_another_process_waits_until_the_outermost_turn_is_over(tmp_path: Path) -> None:
    path = tmp_path / "turns"
    turns = SharedTurns(path)
    with turns:
        with turns:
            other = subprocess.Popen([sys.executable, "-c", OTHER, str(path)], stdout=subprocess.PIPE, bufsize=0)
            assert other.stdout is not None
            assert b"".join(other.stdout.read(1) for _ in range(3)) == b"up\n"
        assert select.select([other.stdout], [], [], SOON_SECONDS)[0] == []
    with other:
        assert other.stdout.read() == b"in\n"
    with turns:  # it can be taken again
        pass


def test_without_a_file_nobody_waits() -> None:
    with SharedTurns(None), SharedTurns(None):
        pass
