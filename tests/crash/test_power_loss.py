"""Power losses that a recorded run of a real server could have met: no start is refused, and nothing safe is missing.

POWER_STATES asks for more states, CRASH_SEED repeats a run of the load; the server's timing is new each time.
"""

import math
import os
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from memcache_kv.journal import Fsync, reading
from memcache_kv.journal.tail import Tail
from tests.crash.platter import PAGE_BYTES, Names, Platter, some_pages
from tests.crash.power_loss import LossError, PowerLosses, possible_counts
from tests.crash.traced_run import TracedRun
from tests.crash.traced_server import calls_in, may_trace

STATES = 200
STATES_OF_A_RUN = 170
STATES_TO_FIND_A_BUG = 1000
NO_SYNCS = """
import sys
from memcache_kv import cli
from memcache_kv.journal import disk
disk.SystemFile.sync = lambda file: None
sys.exit(cli.main(sys.argv[1:]))
"""
NO_DIRECTORY_SYNCS = NO_SYNCS.replace("SystemFile.sync = lambda file", "SystemDisk.sync_directory = lambda disk, path")

REPLIES_FIRST = """
import sys
from memcache_kv import cli
from memcache_kv.journal.writer import Journal
Journal.append = lambda journal: True
Journal.must_wait = lambda journal, position: False
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture
def traceable(tmp_path: Path) -> None:
    """Skip where no process can be traced."""
    if not may_trace(tmp_path):
        if os.environ.get("CI"):
            pytest.fail("strace is missing, or may not trace")
        pytest.skip("strace is not installed, or may not trace a process here")


def losses_of(directory: Path, fsync: Fsync, seed: int, program: str = "", lives: int = 2) -> PowerLosses:
    """Record a run of a server, for power losses in it."""
    directory.mkdir()
    run = TracedRun(directory / "journal", fsync, seed, program, lives)
    return PowerLosses(run, directory / "left", Random(seed))


def check_many(directory: Path, fsync: Fsync, seed: int, states: int) -> None:
    """Check states of as many runs as are needed for so many."""
    counts, longest, runs = Counter[str](), 0.0, 0
    for first in range(0, states, STATES_OF_A_RUN):
        losses = losses_of(directory / f"{first}", fsync, seed + first)
        losses.run.check_writes_before_replies()
        losses.check_many(min(STATES_OF_A_RUN, states - first))
        counts += losses.counts
        longest, runs = max(longest, losses.longest_unsynced), runs + 1
    print(f"{fsync}: {states} states of {runs} runs, 0 refused, 0 lost; {dict(counts)}")
    print(f"{fsync}: an acknowledged write was unsafe for {longest:.2f} s at most")


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("traceable")
@pytest.mark.parametrize("fsync", list(Fsync))
def test_no_power_loss_refuses_a_start_or_loses_what_is_safe(tmp_path: Path, fsync: Fsync, seed: int) -> None:
    states = int(os.environ.get("POWER_STATES") or STATES)
    check_many(tmp_path, fsync, seed, -(-states // len(Fsync)))


# That the check would find what may be wrong


@pytest.mark.long
@pytest.mark.usefixtures("traceable")
@pytest.mark.parametrize("program", [NO_SYNCS, NO_DIRECTORY_SYNCS], ids=["no fsync", "no fsync of the directory"])
def test_it_finds_a_missing_fsync(tmp_path: Path, program: str, seed: int) -> None:
    finds_a_loss(losses_of(tmp_path / "run", Fsync.ALWAYS, seed, program))


@pytest.mark.long
@pytest.mark.usefixtures("traceable")
def test_it_finds_a_start_that_is_refused(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = losses_of(tmp_path / "run", Fsync.EVERYSEC, seed)
    monkeypatch.setattr(reading, "is_known_synced", lambda *arguments: True)
    finds_a_loss(losses)


@pytest.mark.long
@pytest.mark.usefixtures("traceable")
def test_it_finds_a_tail_that_is_left(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = losses_of(tmp_path / "run", Fsync.EVERYSEC, seed)
    monkeypatch.setattr(Tail, "cut", lambda self: None)
    finds_a_loss(losses)


@pytest.mark.long
@pytest.mark.usefixtures("traceable")
def test_it_finds_a_reply_before_the_write(tmp_path: Path, seed: int) -> None:
    losses = losses_of(tmp_path / "run", Fsync.EVERYSEC, seed, REPLIES_FIRST, lives=1)  # a kill would lose writes
    with pytest.raises(AssertionError, match=r"was not written (when|at all)"):
        losses.run.check_writes_before_replies()


def finds_a_loss(losses: PowerLosses) -> None:
    """Check states until one is not as it should be."""
    with pytest.raises(LossError):
        losses.check_many(STATES_TO_FIND_A_BUG)


# The parts of it

TRACE = rb"""7 1.5 openat(AT_FDCWD</x>, "/d/a", O_WRONLY|O_CREAT|O_EXCL|O_APPEND, 0600) = 3</d/a>
7 1.6 write(3</d/a>, "\"\303\n\0", 4 <unfinished ...>
8 1.7 fdatasync(3</d/a>) = 0
7 1.8 <... write resumed>) = 3
8 1.9 fsync(4</d>) = 0
8 2.0 rename("/d/a", "/d/b") = -1 ENOENT (No such file or directory)
8 2.1 sendto(9<TCP:[127.0.0.1:1->127.0.0.1:4711]>, "STORED\r\n", 8, MSG_NOSIGNAL, NULL, 0) = 8
8 2.2 fdatasync(3</d/a> <unfinished ...>
7 2.3 +++ killed by SIGKILL +++
"""


def test_a_trace_is_read_call_by_call() -> None:
    calls = list(calls_in(TRACE, first_line=10))
    assert [(call.name, call.entered, call.left, call.result) for call in calls] == [
        ("openat", 10, 10, 3),
        ("write", 11, 13, 3),
        ("fdatasync", 12, 12, 0),
        ("fsync", 14, 14, 0),
        ("rename", 15, 15, -1),
        ("sendto", 16, 16, 8),
        ("fdatasync", 17, math.inf, -1),
    ]
    assert calls[1].strings() == [b'"\xc3\n\0']
    assert [call.client_port for call in calls] == [0, 0, 0, 0, 0, 4711, 0]


def test_an_fsync_covers_what_was_written_when_it_began() -> None:
    platter = Platter(Path("/d"))
    platter.follow(calls_in(TRACE))
    (file,) = platter.files
    assert [file.sure_changes(at) for at in (3, 9)] == [0, 0]  # the write ended later than the first fsync began
    assert file.content() == b'"\xc3\n'
    assert {name for seed in range(20) for name in platter.left_by(9, Names.IN_ORDER, Random(seed))} == {"a"}
    assert all(platter.left_by(4, Names.EXT4, Random(seed)) for seed in range(20))
    assert not all(platter.left_by(4, Names.ANY, Random(seed)) for seed in range(20))


def test_pages_are_left_out_of_order() -> None:
    latest = b"".join(b"%d" % (page % 10) * PAGE_BYTES for page in range(1, 6))
    durable = latest[:100]
    states = [some_pages(durable, latest, Random(seed)) for seed in range(200)]
    assert all(state.startswith(durable) for state in states)
    lost = [
        [page not in state for page in (b"1" * PAGE_BYTES, b"3" * PAGE_BYTES, b"4" * PAGE_BYTES)] for state in states
    ]
    assert [True, False, True] in lost
    assert [False, True, False] in lost
    assert any(len(state) % PAGE_BYTES for state in states[1:] if len(state) > len(durable))


def test_what_was_found_says_how_many_records_there_were() -> None:
    versions = {b"a": [(0, None), (1, b"x"), (4, None)], b"b": [(0, None), (2, b"y"), (3, b"z")]}
    assert possible_counts(versions, {}, 4) == [0]
    assert possible_counts(versions, {b"a": b"x", b"b": b"z"}, 4) == [3]
    assert possible_counts(versions, {b"b": b"z"}, 9) == list(range(4, 10))
    assert possible_counts(versions, {b"b": b"y"}, 4) == []
