"""How long turns take, and what is logged of slow ones."""

import pytest

from memcache_kv.protocol import session
from memcache_kv.stats import turns as turns_module
from tests.protocol.context_factory import Conversation, Surroundings


@pytest.fixture
def around() -> Surroundings:
    return Surroundings()


def test_the_longest_turn_is_kept_until_a_reset(around: Surroundings) -> None:
    for seconds in (0.001, 0.02, 0.003):
        around.context.turns.end(seconds, 1)
    assert around.counters.longest_turn_us == 20_000
    Conversation(around).feed(b"stats reset\r\n")
    assert around.counters.longest_turn_us == 0


def test_a_slow_turn_is_logged_with_its_slowest_request_once_in_a_while(around: Surroundings) -> None:
    turns = around.context.turns
    turns.overran(7, "stats \x1b", 0.06)
    turns.overran(8, "delete", 0.003)
    for _ in range(3):
        turns.end(0.064, 2)
    assert around.logged == ["slow: a turn of the loop took 64 ms; <7 stats \\x1b took 60 ms"]


def test_a_slow_turn_without_a_slow_request_says_how_many_had_input(around: Surroundings) -> None:
    around.context.turns.overran(7, "stats", 0.004)
    around.context.turns.end(0.01, 1)
    around.context.turns.end(0.08, 900)
    assert around.logged == ["slow: a turn of the loop took 80 ms; 900 connections had input"]


def test_what_is_logged_of_a_request_is_its_name_alone(around: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "TURN_SECONDS", -1.0)
    monkeypatch.setattr(turns_module, "SLOW_SECONDS", -10.0)
    around.context.requests = None  # the compiled code has a constant
    conversation = Conversation(around)
    conversation.feed(b"delete secret\r\n")
    around.context.turns.end(0.0, 1)
    assert len(around.logged) == 1
    assert "<30 delete took" in around.logged[0]
    assert "secret" not in around.logged[0]
