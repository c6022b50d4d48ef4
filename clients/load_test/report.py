"""What a load has shown: as tables for a terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from clients.load_test.load import Load
from clients.load_test.measurement import Measurement
from clients.load_test.targets import Target, targets_of
from clients.load_test.wires.wire import Outcome

PERCENTILES = (50, 90, 95, 99, 99.9)
BUSY = 0.95
"""From this share of a core on, the load itself may be what limits the throughput."""


class Report:
    """The results of a load: one measurement, or one for each number of users."""

    def __init__(self, load: Load, measurements: Sequence[Measurement], started_at: datetime) -> None:
        """Gather them."""
        self.load = load
        self.measurements = measurements
        self.started_at = started_at
        self.targets: list[Target] = [] if load.users else targets_of(load, measurements[0])

    @property
    def passed(self) -> bool:
        """Whether all targets are met; with numbers of users, whether there were no errors."""
        return all(target.met for target in self.targets) and not any(each.errors for each in self.measurements)

    def as_json(self) -> str:
        """Return all figures."""
        return json.dumps(
            {
                "started_at": self.started_at.isoformat(timespec="seconds"),
                "load": {**asdict(self.load), "address": str(self.load.address), "rows": str(self.load.rows or "")},
                "passed": self.passed,
                "targets": [asdict(target) for target in self.targets],
                "measurements": [figures_of(measurement) for measurement in self.measurements],
            },
            indent=2,
        )

    def show(self, console: Console) -> None:
        """Print the tables."""
        console.print(self._figures())
        if self.targets:
            console.print(self._verdicts())
        for line in self.remarks():
            console.print(line, markup=False, highlight=False)

    def remarks(self) -> list[str]:
        """Return what there is to say about the measurements: errors, an early end, a load that was at its limit."""
        lines = [
            f"{count:,} times: {message}"
            for measurement in self.measurements
            for message, count in measurement.messages.items()
        ]
        if any(measurement.interrupted for measurement in self.measurements):
            lines.append("Ctrl-C ended the load early.")
        if any(measurement.busiest_core > BUSY for measurement in self.measurements):
            lines.append("The load took a whole core: it may be the limit, not the server. Try --processes.")
        return lines

    def _figures(self) -> Table:
        """Return a table with a column for each measurement."""
        table = Table("", *(self.title_of(measurement) for measurement in self.measurements))
        columns = [self.rows_of(measurement) for measurement in self.measurements]
        for name in columns[0]:
            table.add_row(name, *(column[name] for column in columns))
        for column in table.columns[1:]:
            column.justify = "right"
        return table

    def title_of(self, measurement: Measurement) -> str:
        """Name a measurement."""
        what = "users" if self.load.users else "connections"
        return f"{measurement.connections} {what if measurement.connections > 1 else what.removesuffix('s')}"

    def rows_of(self, measurement: Measurement) -> dict[str, str]:
        """Return the figures of a measurement by their names."""
        hits = measurement.hit_rate
        return {
            "requests": f"{measurement.requests:,}",
            "time": f"{measurement.seconds:.2f} s",
            "throughput": f"{measurement.throughput:,.0f}/s",
            "mean": f"{measurement.mean_ms:.3f} ms",
            **{f"p{percent:g}": f"{measurement.percentile_ms(percent):.3f} ms" for percent in PERCENTILES},
            "longest": f"{measurement.max_ms:.3f} ms",
            "errors": f"{measurement.errors:,}",
            "hits": "no gets" if hits is None else f"{hits:.2%}",
            "core of the load": f"{measurement.busiest_core:.0%}",
        }

    def _verdicts(self) -> Table:
        table = Table("target", "wanted", "found", "")
        for target in self.targets:
            verdict = "[green]pass[/]" if target.met else "[red]FAIL[/]"
            table.add_row(target.name, target.wanted, target.found, verdict)
        return table


def figures_of(measurement: Measurement) -> dict[str, Any]:
    """Return the figures of a measurement, for JSON."""
    return {
        "connections": measurement.connections,
        "seconds": measurement.seconds,
        "requests": measurement.requests,
        "throughput_per_second": measurement.throughput,
        "latency_ms": {
            "mean": measurement.mean_ms,
            **{f"p{percent:g}": measurement.percentile_ms(percent) for percent in PERCENTILES},
            "max": measurement.max_ms,
        },
        **{outcome.name.lower(): measurement.outcomes[outcome] for outcome in Outcome if outcome is not Outcome.ERROR},
        "errors": measurement.errors,
        "error_rate": measurement.errors / max(measurement.requests, 1),
        "hit_rate": measurement.hit_rate,
        "messages": dict(measurement.messages),
        "interrupted": measurement.interrupted,
        "cpu_seconds": measurement.cpu_seconds,
        "histogram_us": measurement.histogram.encode().decode(),
        "over_time": [asdict(moment) for moment in measurement.moments],
    }


def now() -> datetime:
    """Return the time, with its zone."""
    return datetime.now(UTC)
