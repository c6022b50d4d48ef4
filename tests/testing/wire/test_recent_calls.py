"""The last calls are kept, within two limits."""

from memcache_kv.testing.wire.recent_calls import RecentCalls
from memcache_kv.traffic.conversation import Call
from memcache_kv.traffic.wire import WireRequest


def call(number: int, size: int = 1) -> Call:
    """Make a call that can be told from others."""
    return Call(WireRequest("get", (), b"x" * size, True), b"", number, number)


def test_the_oldest_calls_go_beyond_the_number() -> None:
    recent = RecentCalls(limit=3)
    for number in range(5):
        recent.add(call(number))
    assert [kept.asked_at for kept in recent.all()] == [2, 3, 4]
    recent.clear()
    assert recent.all() == []


def test_the_oldest_calls_go_beyond_the_bytes_but_never_the_last_one() -> None:
    recent = RecentCalls(limit_bytes=100)
    for number, size in enumerate((50, 40, 30, 20)):
        recent.add(call(number, size))
    assert [kept.asked_at for kept in recent.all()] == [1, 2, 3]
    recent.add(call(4, 500))
    assert [kept.asked_at for kept in recent.all()] == [4]
    recent.add(call(5, 100))
    assert [kept.asked_at for kept in recent.all()] == [5]
