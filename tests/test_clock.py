"""The clock: whole seconds, only when ticked, never backwards."""

import pytest

from memcache_kv.clock import LAST_SECOND, Clock


class Time:
    """Wall time and steady time, moved by the test."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_700_000_000.25, 500.0

    def pass_seconds(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.steady)


@pytest.fixture
def moved() -> Time:
    return Time()


def test_it_starts_with_the_wall_time(moved: Time) -> None:
    clock = moved.clock()
    assert (clock.now, clock.started) == (1_700_000_000, 1_700_000_000)


def test_it_moves_only_when_ticked_and_tells_of_each_second_once(moved: Time) -> None:
    clock = moved.clock()
    moved.pass_seconds(1)
    assert clock.now == 1_700_000_000
    assert clock.tick()
    assert clock.now == 1_700_000_001
    assert not clock.tick()


def test_parts_of_a_second_add_up(moved: Time) -> None:
    clock = moved.clock()
    moved.pass_seconds(0.5)
    assert not clock.tick()
    moved.pass_seconds(0.25)
    assert clock.tick()
    assert clock.now == 1_700_000_001


def test_seconds_in_which_nobody_ticked_are_not_lost(moved: Time) -> None:
    clock = moved.clock()
    moved.pass_seconds(1000)
    assert clock.tick()
    assert (clock.now, clock.started) == (1_700_001_000, 1_700_000_000)


@pytest.mark.parametrize("step", [-3600, 3600, 86400 * 365])
def test_a_step_of_the_wall_clock_changes_nothing(moved: Time, step: int) -> None:
    clock = moved.clock()
    moved.wall += step
    assert not clock.tick()
    moved.pass_seconds(1)
    assert clock.tick()
    assert clock.now == 1_700_000_001


@pytest.mark.parametrize("step", [-86400, -1, 1, 3600])
def test_it_tells_with_the_next_second_how_far_the_wall_clock_was_stepped(moved: Time, step: int) -> None:
    clock = moved.clock()
    moved.wall += step
    clock.tick()
    assert clock.wall_ahead == 0
    moved.pass_seconds(1)
    clock.tick()
    assert clock.wall_ahead == step
    moved.wall -= step
    moved.pass_seconds(1)
    clock.tick()
    assert clock.wall_ahead == 0


def test_parts_of_a_second_that_the_wall_clock_is_stepped_by_add_up(moved: Time) -> None:
    clock = moved.clock()
    told = []
    for _ in range(6):
        moved.wall -= 0.375
        moved.pass_seconds(1)
        clock.tick()
        told.append(clock.wall_ahead)
    assert told == [0, 0, -1, -1, -1, -2]


def test_time_that_both_clocks_count_is_no_step(moved: Time) -> None:
    """As when the machine was suspended."""
    clock = moved.clock()
    moved.pass_seconds(8 * 3600)
    assert clock.tick()
    assert (clock.now, clock.wall_ahead) == (1_700_000_000 + 8 * 3600, 0)


def test_a_shift_leads_away_from_the_wall_clock(moved: Time) -> None:
    clock = moved.clock()
    clock.shift(100)
    assert clock.wall_ahead == -100
    moved.pass_seconds(1)
    clock.tick()
    assert clock.wall_ahead == -100


def test_it_never_runs_backwards(moved: Time) -> None:
    clock = moved.clock()
    moved.pass_seconds(10)
    clock.tick()
    moved.steady -= 5
    assert not clock.tick()
    assert clock.now == 1_700_000_010


@pytest.mark.parametrize("seconds", [1, 60, 86400 * 31])
def test_a_shift_moves_it_at_once_and_for_good(moved: Time, seconds: int) -> None:
    clock = moved.clock()
    clock.shift(seconds)
    assert clock.now == 1_700_000_000 + seconds
    assert not clock.tick()
    moved.pass_seconds(1)
    assert clock.tick()
    assert (clock.now, clock.started) == (1_700_000_001 + seconds, 1_700_000_000)


def test_a_shift_back_undoes_one_forth_and_time_goes_on_from_there(moved: Time) -> None:
    clock = moved.clock()
    clock.shift(100)
    clock.shift(-40)
    assert clock.now == 1_700_000_060
    moved.pass_seconds(1)
    assert clock.tick()
    assert clock.now == 1_700_000_061


def test_no_shift_leads_to_before_the_start(moved: Time) -> None:
    clock = moved.clock()
    moved.pass_seconds(5)
    clock.tick()
    clock.shift(-1000)
    assert clock.now == clock.started
    moved.pass_seconds(2)
    clock.tick()
    assert clock.now == clock.started + 2


@pytest.mark.parametrize("seconds", [2147483647, 1 << 62])
def test_no_shift_leads_to_where_times_no_longer_fit(moved: Time, seconds: int) -> None:
    clock = moved.clock()
    for _ in range(3):
        clock.shift(seconds)
    assert clock.now == LAST_SECOND
    moved.pass_seconds(2)
    clock.tick()
    assert clock.now == LAST_SECOND + 2
    clock.shift(1)
    assert clock.now == LAST_SECOND + 2
    clock.shift(-LAST_SECOND)
    assert clock.now == clock.started


def test_a_paused_clock_stands_still_but_for_shifts(moved: Time) -> None:
    clock = moved.clock()
    clock.pause()
    moved.pass_seconds(10)
    assert not clock.tick()
    assert clock.now == 1_700_000_000
    clock.shift(3)
    moved.pass_seconds(10)
    assert not clock.tick()
    assert clock.now == 1_700_000_003


def test_a_resumed_clock_makes_up_for_the_pause(moved: Time) -> None:
    clock = moved.clock()
    clock.pause()
    clock.shift(3)
    moved.pass_seconds(10)
    clock.resume()
    assert clock.tick()
    assert clock.now == 1_700_000_013
