"""Many threads that queue records while another one writes them: each is written once, and in its thread's order."""

import threading
from functools import partial
from pathlib import Path

import pytest

from memcache_kv.journal import Fsync
from memcache_kv.store.entry import pack
from tests.concurrency.crowd import run_together
from tests.journal.journals import Run, keys_in

THREADS = 4
ROUNDS = 10_000


@pytest.mark.usefixtures("frequent_switches")
def test_every_record_of_every_thread_is_written_once_and_in_its_order(tmp_path: Path) -> None:
    run = Run(tmp_path, Fsync.NEVER)
    journal = run.journal
    before = journal.position
    over = threading.Event()

    def queue(number: int) -> None:
        for turn in range(ROUNDS):
            journal.put(b"%d.%d" % (number, turn), pack(0, b"x"))

    def queue_all() -> None:
        try:
            run_together(*(partial(queue, number) for number in range(THREADS)))
        finally:
            over.set()

    def write() -> None:
        while not over.is_set():
            journal.step()

    run_together(queue_all, write)
    assert journal.position - before == THREADS * ROUNDS
    run.close()
    assert journal.queued_bytes == 0
    written = [tuple(map(int, key.split(b"."))) for key in keys_in(tmp_path)]
    for number in range(THREADS):
        assert [turn for writer, turn in written if writer == number] == list(range(ROUNDS))
