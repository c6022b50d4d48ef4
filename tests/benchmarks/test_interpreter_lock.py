"""The interpreter lock of another process: found, and seen held or free."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from benchmarks.interpreter_lock import LAYOUT, Held, InterpreterLock, NoLockError, parse_mappings, places
from memcache_kv.compiled import HAS_GIL
from tests.program import PATIENCE_SECONDS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read Linux' /proc")
SPIN = "print(flush=True)\nwhile True: pass"
with_lock = pytest.mark.skipif(not HAS_GIL, reason="a free-threaded interpreter has no lock")
WAIT = "import signal\nprint(flush=True)\nsignal.pause()"


@contextlib.contextmanager
def process(program: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as found:
        try:
            assert found.stdout is not None
            found.stdout.readline()
            yield found
        finally:
            found.kill()


@with_lock
def test_a_process_that_computes_holds_its_lock() -> None:
    with process(SPIN) as busy, InterpreterLock(busy.pid, sys.executable) as lock:
        held = lock.watch(0.1, [])
        assert held.looks > 0
        assert held.share == 1


@with_lock
def test_a_process_that_waits_does_not() -> None:
    with process(WAIT) as idle, InterpreterLock(idle.pid, sys.executable) as lock:
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while lock.watch(0.1, []).share > 0:
            assert time.monotonic() < give_up_at


@with_lock
def test_looks_at_a_process_that_is_on_no_core_do_not_count() -> None:
    with process(WAIT) as idle, InterpreterLock(idle.pid, sys.executable) as lock:
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while (held := lock.watch(0.1, [idle.pid])).on_core and held.looks > 0:
            assert time.monotonic() < give_up_at


@with_lock
def test_a_process_that_runs_another_program_has_no_such_lock() -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            with pytest.raises(NoLockError, match="does not run"):
                InterpreterLock(other.pid, sys.executable)
        finally:
            other.kill()


@pytest.mark.skipif(HAS_GIL, reason="this interpreter has a lock")
def test_a_free_threaded_interpreter_has_no_lock() -> None:
    with pytest.raises(NoLockError, match="runs without a lock"):
        InterpreterLock(os.getpid(), sys.executable)


def test_an_interpreter_that_can_not_be_asked_is_reported() -> None:
    with pytest.raises(NoLockError, match="does not tell"):
        InterpreterLock(os.getpid(), "false")


def test_only_what_looks_like_a_lock_is_one() -> None:
    lock = LAYOUT.pack(5000, 0x7F0000000010, 1)
    assert places(b"\0" * 16 + lock + b"\0" * 16, 5000) == [16]
    for other in (LAYOUT.pack(5001, 0x7F0000000010, 1), LAYOUT.pack(5000, 3, 1), LAYOUT.pack(5000, 0x7F0000000010, 7)):
        assert places(b"\0" * 16 + other + b"\0" * 16, 5000) == []


def test_mappings_are_read_with_their_files() -> None:
    text = "00400000-0041f000 r--p 00000000 fe:00 260811        /usr/bin/python3.11\n7ffc0-7ffd0 rw-p 0 00:00 0\n"
    file, anonymous = parse_mappings(text)
    assert (file.start, file.end, file.file) == (0x400000, 0x41F000, "/usr/bin/python3.11")
    assert anonymous.file == ""


def test_the_error_of_a_share_shrinks_with_the_looks() -> None:
    assert Held(100, 50, True).error == pytest.approx(0.05)
    assert Held(10_000, 5_000, True).error == pytest.approx(0.005)
    assert Held(0, 0, True).error == Held(0, 0, True).share == 0
