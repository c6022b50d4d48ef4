"""docs/reference/metrics.md: every metric of /metrics with its type, labels and meaning, from the code."""

from __future__ import annotations

from collections.abc import Iterable

from memcache_kv.stats import own_metrics
from memcache_kv.stats.exporter_metrics import EXPORTER_METRICS
from memcache_kv.stats.exposition import Metric
from memcache_kv.stats.latency import FAMILIES, TURNS_PER_SAMPLE
from memcache_kv.stats.metrics import NOT_READY, READY
from tests.reference.tables import MADE, table

SECTIONS: dict[str, Iterable[Metric]] = {
    "The server": [READY, NOT_READY, *(each.metric for each in own_metrics.SERVER)],
    "Silent trouble": [each.metric for each in own_metrics.TROUBLE],
    "Memory": [each.metric for each in own_metrics.MEMORY],
    "Connections": [each.metric for each in own_metrics.CONNECTIONS],
    "The journal, with `--journal`": [each.metric for each in own_metrics.JOURNAL],
    "Key prefixes": [each.metric for each in own_metrics.PREFIXES],
}
HEAD = f"""# Metrics

{MADE}

`--admin-listen` serves these at `/metrics` in Prometheus' text format 0.0.4. [Monitor a
server](../howto/monitoring.md) says which metric answers which question. Labels have few values: the only ones that
clients choose are key prefixes, of which {own_metrics.PREFIXES_SHOWN} are shown at most.

## What a latency is

`memcache_kv_command_seconds` is measured in one of {TURNS_PER_SAMPLE} turns of a worker's loop on average, chosen at
random. All requests of such a turn are measured, so each has the same chance. So the count is about a
{TURNS_PER_SAMPLE}th of the commands; `memcached_commands_total` has them all. A server with few requests has few
samples.

The time runs from the moment when a connection's input was read and is parsed, until the replies to all requests of
that input were given to the system. It includes the wait for the journal, for other connections of the same turn, and
for the interpreter; not the network, nor the time that input waits in the system before it is read. Requests that
arrive together get the same time each. Requests that are left for a later turn, because their connection has used up
its time in this one, are not measured. Each key of a get counts, as in memcached's `cmd_get`. Requests over UDP are not
measured, nor `mn` alone. A large value that arrives in pieces is measured from the last piece on. The families are
{", ".join(f"`{family}`" for family in FAMILIES)}; `arithmetic` is `incr`, `decr` and `ma`, `touch` has `gat`, and
`other` is what counts nothing else.

`memcache_kv_event_loop_lag_seconds` is the time of the same turns, from the end of the wait for events. A connection
that becomes ready meanwhile waits for the end of the turn.

## What an age at eviction is

Items hold no times. The server records once a second how far its eviction queues reach, and so knows the age of what
comes out at the front, to a thirty-second part. For an item that was never read that is the time since it was stored;
for others it is the time of their last turn in the queue, in which they were not read. Items evicted together count
with the age of the last of them. Items stored before memory became scarce are not counted.
"""


def metrics_page() -> str:
    """Make the page."""
    return HEAD + "".join(
        f"\n## {title}\n\n{_rows(metrics)}"
        for title, metrics in (*SECTIONS.items(), ("Those of the exporter for memcached", EXPORTER_METRICS))
    )


def _rows(metrics: Iterable[Metric]) -> str:
    return table(
        ("name", "type", "labels", "meaning"),
        (
            (f"`{each.name}`", str(each.kind), ", ".join(f"`{label}`" for label in each.labels), each.meaning)
            for each in metrics
        ),
    )
