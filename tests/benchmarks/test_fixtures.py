"""The times of the sample suite's fixtures are taken."""

import pytest

from benchmarks.part_fixtures import fixture_ways, run_suite


@pytest.mark.long
def test_the_suite_tells_the_times_of_our_fixture() -> None:
    ways, _ = fixture_ways()
    times = run_suite(ways[0])
    assert times.start is not None
    assert times.reset is not None
    assert 0 < times.reset < times.around < times.whole
    assert 0 < times.waiting + times.others < times.whole
