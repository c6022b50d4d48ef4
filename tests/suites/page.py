"""The table of docs/reference/suites.md."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.suites.suite import Results

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "suites.md"
FIRST_COLUMN = "| suite |"


class Row(NamedTuple):
    """What a suite says with each server."""

    name: str
    version: str
    results: Sequence[Results]


def with_rows(page: str, servers: Sequence[str], rows: Sequence[Row]) -> str:
    """Return the page with a new table, which ends at an empty line as the old one does."""
    before, _, rest = page.partition(FIRST_COLUMN)
    after = rest[rest.index("\n\n") :]
    today = datetime.datetime.now(datetime.UTC).date()
    columns = [FIRST_COLUMN, " version | tests |", *(f" {server} |" for server in servers), " differences | date |"]
    rule = "|---" * (5 + len(servers)) + "|"
    return before + "\n".join(["".join(columns), rule, *(_line(row, today) for row in rows)]) + after


def _line(row: Row, today: datetime.date) -> str:
    names = {name for results in row.results for name in results}
    differing = [name for name in sorted(names) if len({results.get(name) for results in row.results}) > 1]
    cells = [row.name, row.version, str(len(names)), *map(_summary, row.results), ", ".join(differing) or "none"]
    return f"| {' | '.join(cells)} | {today} |"


def _summary(results: Results) -> str:
    counts = Counter(results.values())
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped") if counts[outcome])
