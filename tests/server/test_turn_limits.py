"""The turns of all connections are short while many have requests, so that none waits long for the others."""

import pytest

from memcache_kv.server import turn_limits, worker
from memcache_kv.server.turn_limits import CROWD, CROWD_SECONDS, SHORT_REQUESTS
from tests.fake_clock import FakeClock
from tests.protocol.context_factory import Conversation, Surroundings
from tests.server.test_connection_memory import SMALL_REPLY, connection_of, serving
from tests.server.test_worker import Serving

__all__ = ["serving"]

REQUESTS_PER_TURN = 100
REQUEST = b"version\r\n"


@pytest.fixture(autouse=True)
def turns_without_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memcache_kv.protocol.session.TURN_SECONDS", 1e9)


class Crowd:
    """The connections of a worker, as far as their turns go, at a time that stands still."""

    def __init__(self) -> None:
        self.by_fd = {number: Talking() for number in range(3)}
        self.clock = FakeClock()
        self.limits = turn_limits.TurnLimits(self, self.clock, REQUESTS_PER_TURN)  # type: ignore[arg-type]

    @property
    def requests_per_turn(self) -> set[int]:
        return {talking.requests_per_turn for talking in self.by_fd.values()}


class Talking:
    """A connection whose client has sent more than a turn's requests."""

    def __init__(self) -> None:
        self.conversation = Conversation(Surroundings())
        self.protocol = self.conversation.protocol
        self.protocol.limit_turn(REQUESTS_PER_TURN, 1)

    @property
    def requests_per_turn(self) -> int:
        before = len(self.conversation.turns)
        self.conversation.feed(REQUEST * REQUESTS_PER_TURN)
        return self.conversation.turns[before].count(b"\r\n")


def test_turns_are_short_from_the_crowd_on_until_none_came_for_a_while() -> None:
    crowd = Crowd()
    crowd.limits.count_ready(CROWD - 1)
    assert crowd.requests_per_turn == {REQUESTS_PER_TURN}
    crowd.limits.count_ready(CROWD)
    assert crowd.requests_per_turn == {SHORT_REQUESTS}
    crowd.clock.now += CROWD_SECONDS - 1
    crowd.limits.count_ready(1)
    assert crowd.requests_per_turn == {SHORT_REQUESTS}
    crowd.clock.now += 1
    crowd.limits.count_ready(1)
    assert crowd.requests_per_turn == {REQUESTS_PER_TURN}


def test_turns_stay_short_until_neither_reason_is_left() -> None:
    crowd = Crowd()
    crowd.limits.count_ready(CROWD)
    crowd.limits.set_memory_short(True)
    crowd.clock.now += CROWD_SECONDS
    crowd.limits.count_ready(1)
    assert crowd.requests_per_turn == {SHORT_REQUESTS}
    crowd.limits.set_memory_short(False)
    assert crowd.requests_per_turn == {REQUESTS_PER_TURN}


def test_who_comes_into_the_crowd_has_short_turns() -> None:
    crowd, newcomer = Crowd(), Talking()
    crowd.limits.apply(newcomer.protocol)
    assert newcomer.requests_per_turn == REQUESTS_PER_TURN
    crowd.limits.count_ready(CROWD)
    crowd.limits.apply(newcomer.protocol)
    assert newcomer.requests_per_turn == SHORT_REQUESTS


def test_a_worker_counts_its_events(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (worker, turn_limits):
        monkeypatch.setattr(module, "CROWD", 1)
    client = serving.connect()
    client.sendall(b"get small\r\n" * 900)
    connection = connection_of(serving, client)
    limit = (SHORT_REQUESTS + 4) * len(SMALL_REPLY)
    client.settimeout(10)
    received = 0
    while received < len(SMALL_REPLY) * 900:
        assert connection.counted_bytes < limit
        received += len(client.recv(1 << 16))
