"""The log's queue: nobody waits for the stream, nothing is lost or put out of order unless the queue is full."""

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from memcache_kv.observe import log as log_module
from memcache_kv.observe import log_queue as queue_module
from memcache_kv.observe.log import Log
from memcache_kv.observe.log_form import plain
from memcache_kv.observe.log_queue import LogQueue
from tests.program import PATIENCE_SECONDS


class Valve:
    """A stream that takes nothing until it is opened."""

    def __init__(self) -> None:
        self.taken = ""
        self.entered = threading.Event()
        self.opened = threading.Event()

    def write(self, text: str) -> None:
        self.entered.set()
        assert self.opened.wait(PATIENCE_SECONDS)
        self.taken += text

    def flush(self) -> None:
        """Do nothing."""


@pytest.fixture
def valve() -> Iterator[Valve]:
    made = Valve()
    yield made
    made.opened.set()


def test_lines_of_many_threads_arrive_each_whole_and_in_its_threads_order() -> None:
    stream = io.StringIO()
    log = Log(0, stream)
    log.say("before")
    log.start_queue()

    def speak(name: int) -> None:
        for number in range(500):
            log.say(f"{name} {number}")

    threads = [threading.Thread(target=speak, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.stop_queue()
    log.say("after")
    first, *lines, last = stream.getvalue().splitlines()
    assert (first, last) == ("before", "after")
    for name in range(4):
        assert [line for line in lines if line.startswith(f"{name} ")] == [f"{name} {n}" for n in range(500)]
    assert len(lines) == 2000


def test_a_stream_that_takes_nothing_stops_nobody_and_what_is_dropped_is_said(
    valve: Valve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "QUEUE_LIMIT_CHARACTERS", 100)
    log = Log(0, valve)
    log.start_queue()
    log.say("first")
    assert valve.entered.wait(PATIENCE_SECONDS)
    for number in range(20):
        log.say(f"line {number:04}")
    assert log.dropped_lines == 10
    valve.opened.set()
    log.stop_queue()
    dropped = "10 lines of the log were dropped, as they could not be written fast enough"
    assert valve.taken.splitlines() == ["first", *(f"line {number:04}" for number in range(10)), dropped]


def test_there_is_room_again_once_lines_are_written(valve: Valve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "QUEUE_LIMIT_CHARACTERS", 100)
    valve.opened.set()
    queue = LogQueue(valve.write)
    queue.start()
    for number in range(50):
        assert queue.put(f"line {number:04}\n")
        assert queue.flush(PATIENCE_SECONDS)
    assert queue.stop(PATIENCE_SECONDS)
    assert queue.dropped == 0
    assert len(valve.taken.splitlines()) == 50
    assert not queue.put("too late\n")


def test_the_end_does_not_wait_for_ever_and_later_lines_are_lost(valve: Valve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "FLUSH_SECONDS", 0.05)
    log = Log(0, valve)
    log.start_queue()
    log.say("first")
    assert valve.entered.wait(PATIENCE_SECONDS)
    log.stop_queue()
    log.say("later")
    valve.opened.set()
    assert "later" not in valve.taken


def test_what_waits_is_written_before_the_log_goes_elsewhere() -> None:
    before, after = io.StringIO(), io.StringIO()
    log = Log(0, before)
    log.start_queue()
    for number in range(100):
        log.say(f"{number}")
    log.redirect(after, plain)
    log.say("elsewhere")
    log.stop_queue()
    assert before.getvalue().splitlines() == [f"{number}" for number in range(100)]
    assert after.getvalue() == "elsewhere\n"


def test_a_file_is_written_past_its_buffer(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="ascii") as file:
        log = Log(0, file)
        log.start_queue()
        log.say("line \u00fc")
        log.stop_queue()
        assert (tmp_path / "log").read_text() == "line \\xfc\n"


def test_a_broken_pipe_loses_lines_and_nothing_else() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as broken:
        log = Log(0, broken)
        log.start_queue()
        log.say("lost")
        log.say("lost too")
        log.stop_queue()
        assert log.dropped_lines == 0


def test_a_fault_of_the_thread_is_reported() -> None:
    class Faulty(io.StringIO):
        def write(self, text: str) -> int:
            raise RuntimeError("a fault")

    faults: list[tuple[str, str]] = []
    log = Log(0, Faulty())
    log.start_queue(lambda name, error: faults.append((name, str(error))))
    log.say("line")
    log.stop_queue()
    assert faults == [("log", "a fault")]
