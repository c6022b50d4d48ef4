"""The results as a table for people, and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from rich.box import SIMPLE_HEAD
from rich.table import Table

from clients.cluster_bench.load import OPERATIONS, Result
from clients.cluster_bench.ways import WAYS

TITLE = "Requests per second, and milliseconds for one, against 1, 2 and 3 nodes"
HEADINGS = ("nodes", "all/s", *(f"{operation[:3]}/s" for operation in OPERATIONS), "mean", "p50", "p99", "failed")


def table_of(results: Sequence[Result], skipped: Mapping[str, str]) -> Table:
    """Make a table with a section for each way."""
    table = Table(
        title=TITLE, title_justify="left", box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("way", no_wrap=True)
    for heading in HEADINGS:
        style = "bold" if heading == "all/s" else None
        table.add_column(heading, justify="right", no_wrap=True, style=style)
    for way, kind in WAYS.items():
        rows = [result for result in results if result.way == way]
        for number, result in enumerate(rows):
            table.add_row("" if number else kind.title, *_cells(result), end_section=result is rows[-1])
    table.caption = "\n".join(f"{WAYS[way].title} is left out: {reason}" for way, reason in skipped.items())
    table.caption_justify = "left"
    return table


def _cells(result: Result) -> list[str]:
    total = result.total
    return [
        str(result.nodes),
        f"{total.per_second:,.0f}",
        *(f"{result.operations[operation].per_second:,.0f}" for operation in OPERATIONS),
        f"{total.mean_ms:.3f}",
        f"{total.p50_ms:.3f}",
        f"{total.p99_ms:.3f}",
        f"[red]{total.failed:,}[/red]" if total.failed else "0",
    ]


def json_of(results: Sequence[Result], skipped: Mapping[str, str], clients: int) -> str:
    """Write the results and what was left out as JSON."""
    return json.dumps({"clients": clients, "results": [asdict(each) for each in results], "skipped": skipped}, indent=2)
