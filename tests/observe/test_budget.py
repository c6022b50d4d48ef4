"""The share of the time that lines about requests may take."""

from memcache_kv.observe.budget import CREDIT_SECONDS, LINES_BETWEEN_CHECKS, LINES_SHARE, REOPENED_SECONDS, Budget


class Times:
    """The clock and the CPU time, which the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.cpu = 5.0
        self.budget = Budget(lambda: self.now, lambda: self.cpu)

    def work(self, seconds: float) -> bool:
        """Spend CPU time in a turn; return whether there is time for more."""
        assert self.budget.begin_turn()
        self.cpu += seconds
        return self.budget.end_turn()


def test_what_was_not_used_is_kept_for_a_while() -> None:
    times = Times()
    times.now += 1000
    credit = CREDIT_SECONDS * LINES_SHARE
    assert times.work(0.75 * credit)
    assert not times.work(0.75 * credit)
    assert not times.budget.begin_turn()


def test_over_a_long_time_no_more_than_the_share_is_spent() -> None:
    times = Times()
    spent, turn = 0.0, 1 / 1024
    for _ in range(100_000):
        is_open = times.budget.begin_turn()
        times.now += turn
        times.cpu += turn
        if is_open:
            spent += turn
            times.budget.end_turn()
    passed = 100_000 * turn
    assert 0.9 * LINES_SHARE * passed < spent < LINES_SHARE * (passed + CREDIT_SECONDS) + turn


def test_time_in_which_the_thread_did_not_run_is_not_charged() -> None:
    times = Times()
    assert times.budget.begin_turn()
    times.now += 1000
    assert times.budget.end_turn()


def test_who_begins_to_observe_after_a_flood_gets_lines() -> None:
    times = Times()
    times.work(0)
    assert not times.work(CREDIT_SECONDS * LINES_SHARE + 1)
    assert not times.budget.begin_turn()
    times.budget.reopen()
    assert times.work(0.9 * REOPENED_SECONDS * LINES_SHARE)
    assert not times.work(0.2 * REOPENED_SECONDS * LINES_SHARE)
    assert not times.budget.begin_turn()


def test_a_long_turn_ends_after_some_lines() -> None:
    times = Times()
    assert times.budget.begin_turn()
    times.cpu += 2 * CREDIT_SECONDS * LINES_SHARE
    kept = [times.budget.has_time_after_line() for _ in range(LINES_BETWEEN_CHECKS)]
    assert kept == [True] * (LINES_BETWEEN_CHECKS - 1) + [False]
