"""Prometheus' text format, version 0.0.4: how a metric and its samples are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate, islice

from memcache_kv.histogram import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SAMPLES_AT_ONCE = 100
"""How many samples of a metric one piece of a page has at most."""

Labels = tuple[tuple[str, str], ...]
"""Names and values."""
Sample = tuple[Labels, float]


class Kind(StrEnum):
    """The type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Metric:
    """What is known of a metric before there are any samples of it."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = field(default=())

    @property
    def head(self) -> str:
        """The lines before its samples."""
        meaning = self.meaning.replace("\\", "\\\\").replace("\n", "\\n")
        return f"# HELP {self.name} {meaning}\n# TYPE {self.name} {self.kind}\n"


def exposed(metric: Metric, samples: Iterable[Sample]) -> str:
    """Write a counter or a gauge; nothing if it has no samples."""
    return "".join(exposed_in_pieces(metric, samples))


def exposed_in_pieces(metric: Metric, samples: Iterable[Sample]) -> Iterator[str]:
    """Write a counter or a gauge that may have many samples, some of them at a time."""
    rest, head = iter(samples), metric.head
    while some := list(islice(rest, SAMPLES_AT_ONCE)):
        yield head + "".join([f"{metric.name}{_labels(labels)} {_number(value)}\n" for labels, value in some])
        head = ""


def exposed_histograms(metric: Metric, histograms: Iterable[tuple[Labels, Histogram]]) -> str:
    """Write a histogram for each combination of labels; nothing if there is none."""
    lines = [line for labels, histogram in histograms for line in _buckets(metric.name, labels, histogram)]
    return metric.head + "".join(lines) if lines else ""


def _buckets(name: str, labels: Labels, histogram: Histogram) -> Sequence[str]:
    counts = list(accumulate(histogram.counts))  # one reading: others may observe meanwhile
    bounds = [*(_number(bound) for bound in histogram.bounds), "+Inf"]
    lines = [
        f"{name}_bucket{_labels((*labels, ('le', bound)))} {count}\n"
        for bound, count in zip(bounds, counts, strict=True)
    ]
    return [
        *lines,
        f"{name}_sum{_labels(labels)} {_number(histogram.sum)}\n",
        f"{name}_count{_labels(labels)} {counts[-1]}\n",
    ]


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join([f'{name}="{_escaped(value)}"' for name, value in labels]) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    """Write a number; a whole one without a point."""
    return str(int(value)) if isinstance(value, int) or value.is_integer() else repr(value)
