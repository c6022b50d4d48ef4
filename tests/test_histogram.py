"""Histograms: which bound a value counts for."""

from memcache_kv.histogram import Histogram


def test_a_value_counts_for_the_lowest_bound_that_is_not_below_it() -> None:
    histogram = Histogram((1, 2, 4))
    for value in (0.5, 1, 1.5, 4, 5):
        histogram.observe(value)
    assert histogram.counts == [2, 1, 1, 1]
    assert histogram.sum == 12


def test_a_value_may_count_several_times() -> None:
    histogram = Histogram((1,))
    histogram.observe(3, 5)
    assert (histogram.counts, histogram.sum) == ([0, 5], 15)


def test_histograms_are_added() -> None:
    one, other = Histogram((1, 2)), Histogram((1, 2))
    one.observe(1)
    other.observe(2, 3)
    one.add(other)
    assert (one.counts, one.sum) == ([1, 3, 0], 7)


def test_nothing_is_left_after_a_reset() -> None:
    histogram = Histogram((1,))
    histogram.observe(1)
    histogram.reset()
    assert (histogram.counts, histogram.sum) == ([0, 0], 0)
