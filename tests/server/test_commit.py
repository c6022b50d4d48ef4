"""When a worker has the journal save the writes of its clients: once no more are expected to share an fsync."""

from collections.abc import Callable, Iterator

import pytest

from tests.program import poll_until
from tests.server.test_worker import STORED, VERSION, FakeJournal, Serving, ask, read

SET = b"set a 0 0 1\r\nx\r\n"
LONG_SECONDS = 1000.0
Start = Callable[[float, float], Serving]


class CountingJournal(FakeJournal):
    """A journal that saves all it has when it is asked to, and counts that."""

    def __init__(self, sync_seconds: float, gather_seconds: float) -> None:
        super().__init__()
        self.commits: list[int] = []
        self.average_sync_seconds, self.gather_seconds = sync_seconds, gather_seconds

    def commit(self) -> None:
        self.commits.append(self.position)
        self.reach(self.position)


@pytest.fixture(params=["compiled", "interpreted"])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    made: list[Serving] = []

    def make(sync_seconds: float, gather_seconds: float) -> Serving:
        journal = CountingJournal(sync_seconds, gather_seconds)
        made.append(Serving(journal=journal, is_interpreted=request.param == "interpreted"))
        return made[-1]

    yield make
    for each in made:
        each.close()


def commits(serving: Serving) -> list[int]:
    journal = serving.around.context.journal
    assert isinstance(journal, CountingJournal)
    return journal.commits


def test_once_every_connection_waits_nothing_more_is_waited_for(start: Start) -> None:
    serving = start(LONG_SECONDS, LONG_SECONDS)
    clients = [serving.connect() for _ in range(3)]
    for client in clients:
        ask(client, b"version\r\n", VERSION)
    for client in clients[:2]:
        client.sendall(SET)
    poll_until(lambda: serving.is_awaiting_journal(2), "two wait")
    assert not commits(serving)
    clients[2].sendall(SET)
    for client in clients:
        assert read(client, len(STORED)) == STORED
    assert commits(serving) == [3]


def test_once_no_more_writes_come_they_are_saved_although_others_are_connected(start: Start) -> None:
    serving = start(LONG_SECONDS, 0.0)
    client, idle = serving.connect(), serving.connect()
    ask(idle, b"version\r\n", VERSION)
    ask(client, SET, STORED)
    assert commits(serving) == [1]


def test_after_the_time_of_an_fsync_they_are_saved_although_more_requests_come(start: Start) -> None:
    serving = start(0.0, LONG_SECONDS)
    client, idle = serving.connect(), serving.connect()
    ask(idle, b"version\r\n", VERSION)
    ask(client, SET, STORED)
    assert commits(serving) == [1]
