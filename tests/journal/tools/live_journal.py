"""A server that is busy while a test reads its journal, and what that must have found."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.wire import poll_until
from tests.program import Program

ROUNDS = 6
PAIRS = 50
PAUSE_SECONDS = 0.003
"""Between rounds of the load: the journal must not grow faster than a tool that is being traced can read it."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Program]:
    """A server with a journal."""
    with Program("-p", "0", "-l", "127.0.0.1", "--journal", str(tmp_path / "journal")) as program:
        yield program


class Load(threading.Thread):
    """Raises a first and then a second number of many pairs, all the time: the second is never ahead."""

    def __init__(self, server: Program) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.stopping = threading.Event()
        self.rounds = 0

    def run(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=30) as connection:
            replies = connection.makefile("rb")
            while not self.stopping.wait(PAUSE_SECONDS):
                self.rounds += 1
                number = b"%d" % self.rounds
                request = b"".join(
                    b"set %b-%d 0 0 %d\r\n%b\r\n" % (name, pair, len(number), number)
                    for pair in range(PAIRS)
                    for name in (b"first", b"second")
                )
                connection.sendall(request)
                for _ in range(2 * PAIRS):
                    assert replies.readline() == b"STORED\r\n"

    def wait_for_next_round(self) -> None:
        """Wait until more has been sent than was when this was called."""
        seen = self.rounds
        poll_until(lambda: self.rounds > seen, "the load goes on")


def check_pairs(lines: list[str]) -> None:
    found = {item["key"]: int(item["value"]) for item in map(json.loads, lines)}
    for pair in range(PAIRS):
        first, second = found.get(f"first-{pair}", 0), found.get(f"second-{pair}", 0)
        assert first - 1 <= second <= first, pair
    values = [found.get(f"{name}-{pair}", 0) for pair in range(PAIRS) for name in ("first", "second")]
    assert values == sorted(values, reverse=True)
    assert max(values, default=0) - min(values, default=0) <= 1


def busy_rounds(server: Program) -> Iterator[int]:
    """Count rounds in which a server is busy and rewrites its journal. After the last one it ends."""
    load = Load(server)
    load.start()
    try:
        for number in range(ROUNDS):
            load.wait_for_next_round()
            assert server.ask(b"journal compact\r\n") in (b"OK\r\n", b"BUSY currently rewriting the journal\r\n")
            yield number
    finally:
        load.stopping.set()
        load.join()
    assert load.rounds >= ROUNDS
    assert server.end() == 0
