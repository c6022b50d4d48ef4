"""Prometheus' text format, as its own client library reads it."""

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from memcache_kv.histogram import Histogram
from memcache_kv.stats.exposition import (
    SAMPLES_AT_ONCE,
    Kind,
    Metric,
    exposed,
    exposed_histograms,
    exposed_in_pieces,
)

GAUGE = Metric("g", Kind.GAUGE, "A gauge.", ("label",))
HISTOGRAM = Metric("h_seconds", Kind.HISTOGRAM, "A histogram.", ("label",))
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]))


@given(WORDS.filter(lambda text: "\r" not in text), st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_labels_and_values_are_read_back(label: str, value: float) -> None:
    [family] = text_string_to_metric_families(exposed(GAUGE, [((("label", label),), value)]))
    [sample] = family.samples
    assert sample.labels == {"label": label}
    assert math.isclose(sample.value, value)


def test_a_whole_number_has_no_point_and_a_switch_is_one() -> None:
    assert exposed(GAUGE, [((), 3.0), ((), True), ((), 0.5)]).splitlines()[2:] == ["g 3", "g 1", "g 0.5"]


def test_a_metric_without_samples_is_left_out() -> None:
    assert exposed(GAUGE, []) == exposed_histograms(HISTOGRAM, []) == ""


def test_a_meaning_of_several_lines_stays_one() -> None:
    text = exposed(Metric("g", Kind.GAUGE, "one\ntwo \\"), [((), 1)])
    assert text.startswith("# HELP g one\\ntwo \\\\\n# TYPE g gauge\n")


def test_the_buckets_of_a_histogram_are_cumulative() -> None:
    histogram = Histogram((0.25, 1))
    for value in (0.125, 0.5, 0.5, 2):
        histogram.observe(value)
    [family] = text_string_to_metric_families(exposed_histograms(HISTOGRAM, [((("label", "x"),), histogram)]))
    assert family.type == "histogram"
    assert [(each.name, each.labels.get("le"), each.value) for each in family.samples] == [
        ("h_seconds_bucket", "0.25", 1),
        ("h_seconds_bucket", "1", 3),
        ("h_seconds_bucket", "+Inf", 4),
        ("h_seconds_sum", None, 3.125),
        ("h_seconds_count", None, 4),
    ]


def test_many_samples_come_in_pieces_under_one_head() -> None:
    samples = [((("label", str(number)),), number) for number in range(2 * SAMPLES_AT_ONCE + 1)]
    pieces = list(exposed_in_pieces(GAUGE, samples))
    assert len(pieces) == 3
    assert "".join(pieces) == exposed(GAUGE, samples)
    assert "".join(pieces).count("# TYPE") == 1
