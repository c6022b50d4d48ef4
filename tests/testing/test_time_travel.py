"""The time that a test moves: with real servers and clients, and beside the libraries that patch the clock."""

import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pymemcache.client.base import Client  # type: ignore[import-untyped]

from memcache_kv import Server
from memcache_kv.clock import steady_seconds, unix_seconds
from memcache_kv.testing.time_travel import TimeTravel
from tests.patched_clocks import PatchClock, both_libraries
from tests.ports import free_port

DAY_SECONDS = 86_400
EARLY, LATE = (datetime(year, 3, 4, 5, 6, 7, tzinfo=UTC) for year in (2001, 2033))


@pytest.fixture
def travel() -> TimeTravel:
    return TimeTravel()


@pytest.fixture
def server(travel: TimeTravel) -> Iterator[Server]:
    with travel.server(debug_commands=True) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with closing(Client(server.address, timeout=30, default_noreply=False)) as client:
        yield client


def server_time(client: Client) -> int:
    return int(client.stats()[b"time"])


# What follows the time at once


def test_what_has_expired_is_gone_without_a_read(travel: TimeTravel, client: Client) -> None:
    client.set("short", b"value", expire=60)
    client.set("long", b"value", expire=3600)
    client.set("ever", b"value")
    travel.travel(20)
    assert client.get("short") == b"value"
    travel.travel(40)
    assert client.stats()[b"curr_items"] == 2
    assert (client.get("short"), client.get("long")) == (None, b"value")
    travel.travel(3600)
    assert client.stats()[b"curr_items"] == 1


def test_a_delayed_flush_falls_due(travel: TimeTravel, client: Client) -> None:
    client.set("key", b"value")
    client.flush_all(delay=3600)
    travel.travel(3500)
    assert client.get("key") == b"value"
    travel.travel(101)
    assert client.stats()[b"curr_items"] == 0


def test_ages_and_remaining_times_follow(travel: TimeTravel, client: Client) -> None:
    with travel.freeze():
        client.set("key", b"value", expire=1000)
        assert client.raw_command(b"mg key t h") == b"HD t1000 h0"  # from here on its accesses are known
        assert client.raw_command(b"mg key t h l") == b"HD t1000 h1 l0"
        travel.travel(400)
        assert client.raw_command(b"mg key t h l") == b"HD t600 h1 l400"


def test_evicted_items_are_as_old_as_the_time_says(travel: TimeTravel) -> None:
    with travel.server(memory_limit=1 << 20, max_item_size=200_000, shards=1) as server, travel.freeze():
        fill(server, range(200))
        assert int(server.stats()["evictions"]) > 50
        travel.travel(5000)
        fill(server, range(200, 230))
        ages = [int(value) for name, value in server.stats("items").items() if name.endswith(":evicted_time")]
        assert 5000 <= max(ages) < 5200


def fill(server: Server, numbers: range) -> None:
    for number in numbers:
        server.store.set(f"key{number}", bytes(10_000))


def test_a_disabled_crawler_removes_nothing(travel: TimeTravel) -> None:
    with travel.server(lru_crawler=False) as server:
        server.store.set("key", b"value", ttl=1)
        travel.travel(10)
        assert (server.stats()["curr_items"], server.store.get("key")) == ("1", None)


# Moves


def test_dates_as_expiry_times_work_at_any_date(travel: TimeTravel, client: Client) -> None:
    for moment in (EARLY, LATE):
        travel.at(moment)
        assert server_time(client) - int(moment.timestamp()) in (0, 1)
        client.set("key", b"value", expire=int(moment.timestamp()) + 100 * DAY_SECONDS)
        travel.travel(99 * DAY_SECONDS)
        assert client.get("key") == b"value"
        travel.travel(DAY_SECONDS)
        assert client.get("key") is None


def test_a_move_to_before_the_start_moves_the_start(travel: TimeTravel, client: Client) -> None:
    travel.travel(1000)
    assert 1000 <= client.stats()[b"uptime"] < 1030
    with travel.at(EARLY):
        assert client.stats()[b"uptime"] < 30
    assert 1000 <= client.stats()[b"uptime"] < 1060


def test_a_date_without_a_zone_is_in_utc(travel: TimeTravel, client: Client) -> None:
    travel.freeze(EARLY.replace(tzinfo=None))
    assert server_time(client) == EARLY.timestamp()


def test_frozen_time_stands_still_and_the_block_undoes_it(travel: TimeTravel, client: Client) -> None:
    with travel.freeze(EARLY):
        began = steady_seconds()
        client.set("key", b"value", expire=1)
        while steady_seconds() < began + 0.01:
            assert travel.now() == EARLY.timestamp()
        travel.travel(0.5)
        travel.travel(0.25)
        assert travel.now() == EARLY.timestamp() + 0.75
        travel.at(LATE)
        assert (travel.now(), client.get("key")) == (LATE.timestamp(), None)
    assert abs(travel.now() - unix_seconds()) < 30


def test_a_reset_undoes_everything(travel: TimeTravel, client: Client) -> None:
    travel.travel(1e6)
    travel.at(EARLY)
    travel.freeze()
    client.set("key", b"value", expire=60)
    travel.reset()
    assert abs(server_time(client) - unix_seconds()) < 30
    assert travel.now() < travel.now(), "it runs"


@pytest.mark.parametrize("moment", [datetime(1969, 1, 1), datetime(2106, 2, 1), datetime(9999, 1, 1)])
def test_what_is_no_time_of_memcached_is_refused(travel: TimeTravel, client: Client, moment: datetime) -> None:
    before = server_time(client)
    for move in (travel.at, travel.freeze):
        with pytest.raises(ValueError, match="before 2106"):
            move(moment)
    with pytest.raises(ValueError, match="before 2106"):
        travel.travel(-1e10)
    assert 0 <= server_time(client) - before < 30


def test_the_command_debugtime_moves_it_too(travel: TimeTravel, client: Client) -> None:
    client.raw_command(b"debugtime p")
    before = server_time(client)
    client.raw_command(b"debugtime 500")
    assert travel.now() // 1 == server_time(client) == before + 500
    client.raw_command(b"debugtime r")
    assert 0 <= server_time(client) - before < 30


def test_all_servers_live_in_one_time_and_keep_it_over_a_restart(travel: TimeTravel, tmp_path: Path) -> None:
    with travel.server() as one, travel.server(port=free_port(), journal=tmp_path / "journal") as two:
        for each in (one, two):
            each.store.set("key", b"value", ttl=60)
            each.store.set("later", b"value", ttl=120)
        travel.travel(61)
        assert [each.stats()["curr_items"] for each in (one, two)] == ["1", "1"]
        two.stop()
        travel.travel(30)
        two.start()
        assert (two.store.get("key"), two.store.get("later")) == (None, b"value")
        travel.travel(30)
        assert [len(each.store) for each in (one, two)] == [0, 0]


# Beside freezegun and time-machine


@both_libraries
def test_the_time_follows_a_patched_clock(client: Client, patch_clock: PatchClock) -> None:
    with patch_clock(LATE, False) as patched:
        assert server_time(client) == time.time() == LATE.timestamp()
        client.set("key", b"value", expire=60)
        client.set("date", b"value", expire=int(time.time()) + 40 * DAY_SECONDS)
        patched.move_to(LATE + timedelta(seconds=59))
        assert client.get("key") == b"value"
        patched.move_to(LATE + timedelta(seconds=60))
        assert client.stats()[b"curr_items"] == 1
        patched.move_to(EARLY)
        assert server_time(client) == EARLY.timestamp()
        client.set("early", b"value", expire=int(time.time()) + 40 * DAY_SECONDS)
        assert client.get("early") == b"value"
    assert abs(server_time(client) - unix_seconds()) < 30


@both_libraries
def test_the_time_of_a_server_that_is_started_under_a_patched_clock(
    travel: TimeTravel, patch_clock: PatchClock
) -> None:
    with patch_clock(EARLY, False), travel.server() as server:
        assert server.stats()["time"] == str(int(EARLY.timestamp()))
        server.store.set("key", b"value", ttl=5)
        assert server.store.gets("key").expires == EARLY.timestamp() + 5  # type: ignore[union-attr]


@both_libraries
def test_the_time_runs_with_a_patched_clock_that_ticks(travel: TimeTravel, patch_clock: PatchClock) -> None:
    with patch_clock(LATE, True):
        first = travel.now()
        assert 0 <= first - LATE.timestamp() < 30
        assert first < travel.now()


def seconds(utc: datetime) -> float:
    """The unix time of a time without a time zone."""
    return utc.replace(tzinfo=UTC).timestamp()


def callers() -> set[str]:
    """The packages of all functions on the stack of this thread."""
    return {str(frame.f_globals.get("__name__")).partition(".")[0] for frame, _ in traceback.walk_stack(None)}


def test_the_time_does_not_advance_a_clock_that_ticks_with_each_reading(
    travel: TimeTravel, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from freezegun import freeze_time
    from freezegun.api import StepTickTimeFactory

    readers, tick = list[set[str]](), StepTickTimeFactory.tick

    def noting_tick(factory: StepTickTimeFactory, delta: float | None = None) -> datetime:
        readers.append(callers())
        return tick(factory, delta)

    monkeypatch.setattr(StepTickTimeFactory, "tick", noting_tick)
    with freeze_time(LATE, auto_tick_seconds=10) as frozen:
        for _ in range(100):  # any thread of the process that looks at the time moves it meanwhile
            before = seconds(frozen.time_to_freeze)
            assert before <= server_time(client) <= seconds(frozen.time_to_freeze)
        last = server_time(client)
        time.time()
        assert server_time(client) >= last + 10
    assert [each for each in readers if "memcache_kv" in each] == []
    assert any("tests" in each for each in readers), "the reading of the test is noted"


@both_libraries
def test_what_the_test_says_goes_before_a_patched_clock(
    travel: TimeTravel, client: Client, patch_clock: PatchClock
) -> None:
    with patch_clock(LATE, False) as patched:
        travel.travel(100)
        assert server_time(client) == LATE.timestamp() + 100
        with travel.at(EARLY):
            patched.move_to(LATE + timedelta(days=1))
            assert 0 <= server_time(client) - EARLY.timestamp() < 30
        assert server_time(client) == LATE.timestamp() + DAY_SECONDS + 100
        travel.freeze()
        patched.move_to(LATE)
        assert server_time(client) == LATE.timestamp() + DAY_SECONDS + 100
        travel.reset()
        assert server_time(client) == LATE.timestamp()


@both_libraries
def test_it_may_ignore_a_patched_clock(patch_clock: PatchClock) -> None:
    travel = TimeTravel(follows=False)
    with travel.server() as server, patch_clock(LATE, False) as patched:
        server.store.set("key", b"value", ttl=60)
        patched.move_to(LATE + timedelta(days=1))
        assert (server.store.get("key"), abs(int(server.stats()["time"]) - unix_seconds()) < 30) == (b"value", True)
        travel.travel(61)
        assert server.store.get("key") is None
