"""A client that stops in the middle of a request: the others do not notice."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.concurrency.crowd import run_together
from tests.integration.wire import OURS, RunningServer, Wire

pytestmark = pytest.mark.long

SILENT_SECONDS = 20.0
ANSWER_SECONDS = SILENT_SECONDS / 2
"""How long a client waits for one answer before it gives up: who is blocked by the silent one waits longer."""


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[RunningServer]]:
    """Two servers, with a journal and without, each with one worker, so that whoever blocks it blocks all."""
    running = [
        RunningServer(OURS, ("-t", "1")),
        RunningServer(OURS, ("-t", "1", "--journal", str(tmp_path), "--fsync", "always")),
    ]
    yield running
    for server in running:
        server.close()


def ask_all_the_time(server: RunningServer, key: bytes, silence_over: threading.Event) -> None:
    """Set and get without pause; every answer comes within a socket's timeout."""
    answers = 0
    with Wire(server) as wire:
        wire.socket.settimeout(ANSWER_SECONDS)
        while not silence_over.wait(0.005):
            value = b"%d" % answers
            wire.send(b"set %b 0 0 %d\r\n%b\r\nget %b\r\n" % (key, len(value), value, key))
            wire.receive(b"STORED\r\nVALUE %b 0 %d\r\n%b\r\nEND\r\n" % (key, len(value), value))
            answers += 1
    assert answers > SILENT_SECONDS


def be_silent(server: RunningServer, silence_over: threading.Event) -> None:
    """Send half of a set, say nothing for long, and then the rest."""
    try:
        with Wire(server) as wire:
            wire.send(b"set half 0 0 10\r\nhalf")
            time.sleep(SILENT_SECONDS)
            wire.send(b"-value\r\n")
            wire.receive(b"STORED\r\n")
            wire.expect(b"get half\r\n", b"VALUE half 0 10\r\nhalf-value\r\nEND\r\n")
    finally:
        silence_over.set()


def test_two_clients_are_answered_at_once_while_a_third_is_silent_in_the_middle_of_a_set(
    servers: list[RunningServer],
) -> None:
    tasks: list[Callable[[], None]] = []
    for server in servers:
        silence_over = threading.Event()
        tasks += [
            partial(be_silent, server, silence_over),
            partial(ask_all_the_time, server, b"a", silence_over),
            partial(ask_all_the_time, server, b"b", silence_over),
        ]
    run_together(*tasks)
