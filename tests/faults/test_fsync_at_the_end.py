"""An fsync that fails while the server stops: it is tried once more, in a new file."""

import os
import re
import sys
from pathlib import Path

import pytest

from tests.faults.scene import POLICIES
from tests.program import Program

FAILING_SYNCS = """
import errno, os, sys
from pathlib import Path

flag, sync = Path(sys.argv.pop(1)), os.fdatasync

def failing_sync(fd):
    if flag.exists():
        if flag.read_text() == "once":
            flag.unlink()
        raise OSError(errno.EIO, "Input/output error")
    sync(fd)

os.fdatasync = failing_sync
from memcache_kv.cli import main

sys.exit(main())
"""


class FailingProgram(Program):
    """A server whose fsyncs fail while a file exists, which its first argument names: `once`, or each time."""

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", FAILING_SYNCS, *arguments]


def start(path: Path, fsync: str) -> Program:
    flags = ("-p", "0", "-l", "127.0.0.1", "--journal", str(path / "journal"), "--fsync", fsync)
    return FailingProgram(str(path / "flag"), *flags)


@pytest.mark.parametrize("fsync", POLICIES)
def test_an_fsync_that_fails_once_costs_nothing(tmp_path: Path, fsync: str) -> None:
    with start(tmp_path, fsync) as server:
        assert server.ask(b"set a 0 0 1\r\nx\r\n") == b"STORED\r\n"
        (tmp_path / "flag").write_text("once")
        assert server.end() == os.EX_OK
        assert b"Input/output error; writes are rejected" in server.said
        assert b"the journal is written again, after" in server.said
    assert len(list((tmp_path / "journal").glob("increment-*"))) == 2
    with start(tmp_path, fsync) as server:
        assert server.ask(b"get a\r\n") == b"VALUE a 0 1\r\n"


@pytest.mark.parametrize("fsync", POLICIES)
def test_an_fsync_that_fails_twice_is_reported_with_what_may_be_lost(tmp_path: Path, fsync: str) -> None:
    with start(tmp_path, fsync) as server:
        assert server.ask(b"set a 0 0 1\r\nx\r\n") == b"STORED\r\n"
        (tmp_path / "flag").write_text("always")
        assert server.end() == 1
        last = server.said.decode().splitlines()[-1]
        assert last.startswith(f"can't write the journal in {tmp_path / 'journal'}: Input/output error; ")
        lost = r"; \d+ records were written and may not be on disk at the end"
        if fsync == "always":  # where only the time may be missing
            lost = f"(?:{lost}|; all records are on disk at the end)"
        assert re.search(f"{lost}$", last)
