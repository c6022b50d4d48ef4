"""Counters of one worker and of all."""

from memcache_kv.stats.counters import Counters, total


def test_counters_start_at_zero() -> None:
    counters = Counters()
    assert {getattr(counters, name) for name in Counters.__slots__} == {0}


def test_counting_by_name_adds_one() -> None:
    counters = Counters()
    counters.count("get_hits")
    counters.count("get_hits")
    assert (counters.get_hits, counters.get_misses) == (2, 0)


def test_a_reset_sets_all_to_zero() -> None:
    counters = Counters()
    for name in Counters.__slots__:
        setattr(counters, name, 7)
    counters.reset()
    assert {getattr(counters, name) for name in Counters.__slots__} == {0}


def test_the_total_adds_up_every_count_but_the_longest_turn_and_leaves_the_parts() -> None:
    parts = [Counters(), Counters(), Counters()]
    for number, each in enumerate(parts):
        for index, name in enumerate(Counters.__slots__):
            setattr(each, name, 100 * number + index)
    added = total(parts)
    for index, name in enumerate(Counters.__slots__):
        expected = 200 + index if name == "longest_turn_us" else 300 + 3 * index
        assert getattr(added, name) == expected
        assert getattr(parts[1], name) == 100 + index


def test_the_total_of_none_is_zero() -> None:
    assert total([]).cmd_get == 0


def test_every_count_is_declared_once() -> None:
    assert len(set(Counters.__slots__)) == len(Counters.__slots__)
    assert set(Counters.__annotations__) == set(Counters.__slots__)
