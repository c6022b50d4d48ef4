"""Measure memcache_kv beside memcached on this machine, in alternating rounds.

Every round runs each workload once against each server, freshly started, so that a slow moment of the machine
meets all of them alike. The table gives the medians over the rounds of the throughput and of the server's CPU
time per operation, and the medians of the ratios memcache_kv / memcached taken within one round: throughput
above 1 and CPU below 1 mean that memcache_kv does better. Load and server share the machine's cores.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import (
    NO_MEMCACHED,
    OURS_WITH_JOURNAL,
    Contender,
    machine_line,
    memcached,
    memcached_program,
    ours,
)
from benchmarks.rounds import Medians, run_rounds, summarize
from benchmarks.workloads import BY_NAME, NO_MEMCASLAP, WORKLOADS, LoadError, Workload, memcaslap_program
from clients.local_server import ServerStartError

USUAL = ("get90", "set50", "pipe32")
COLUMNS = ("workload", "server", "ops/s", "CPU µs/op", "ops/s : memcached -t 1", "CPU : memcached -t 1")

EXAMPLES = """\
examples:
  python benchmarks/compare.py                        5 rounds of 4 s, about 3 minutes
  python benchmarks/compare.py --rounds 3 --seconds 2 --only get90,pipe32
  MEMCACHED=/opt/memcached/bin/memcached python benchmarks/compare.py --journal --markdown compare.md"""


@dataclass(frozen=True)
class Row(Medians):
    """Hold the medians of one workload against one server."""

    workload: str

    def cells(self) -> tuple[str, ...]:
        """Spell the row for a table."""
        ratios = (self.throughput_ratio, self.cpu_ratio)
        return (
            self.workload,
            self.server,
            f"{self.operations_per_second:,.0f}",
            f"{self.cpu_microseconds:.2f}",
            *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
        )


def contenders(with_journal: bool) -> list[Contender]:
    """List the servers that can be run here."""
    journal = [ours(name=OURS_WITH_JOURNAL, journal=True)] if with_journal else []
    return [ours(), *journal, *memcached(), *memcached(name="memcached")]


def skipped(wanted: set[str]) -> list[str]:
    """Say what cannot be run here, and what would change that."""
    reasons = []
    if memcached_program() is None:
        reasons.append(NO_MEMCACHED)
    if memcaslap_program() is None:
        names = ", ".join(work.name for work in WORKLOADS if work.needs_memcaslap and work.name in wanted)
        if names:
            reasons.append(f"{names} skipped: {NO_MEMCASLAP}")
    return reasons


def as_table(rows: list[Row]) -> Table:
    """Lay the rows out for a terminal."""
    table = Table(*COLUMNS)
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row.cells(), end_section=row.server == rows[-1].server)
    return table


def as_markdown(rows: list[Row], notes: list[str]) -> str:
    """Lay the rows out as a Markdown table with the notes below it."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---|" + "---:|" * (len(COLUMNS) - 2)]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in rows]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"


def as_json(rows: list[Row], notes: list[str]) -> str:
    """Spell rows and notes as JSON."""
    return json.dumps({"rows": [vars(row) for row in rows], "notes": notes}, indent=2) + "\n"


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    names = ", ".join(workload.name for workload in WORKLOADS)
    parser = argparse.ArgumentParser(
        prog="compare.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=_positive, default=5, help="rounds, alternating (default 5)")
    parser.add_argument("--seconds", type=_positive, default=4, help="length of one load (default 4)")
    parser.add_argument(
        "--only",
        type=_workloads,
        default=[BY_NAME[name] for name in USUAL],
        help=f"some of {names} (default {','.join(USUAL)})",
    )
    parser.add_argument("--journal", action="store_true", help="measure memcache_kv with a journal, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table as Markdown")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def _workloads(text: str) -> list[Workload]:
    unknown = [name for name in text.split(",") if name not in BY_NAME]
    if unknown:
        raise argparse.ArgumentTypeError(f"no workload {', '.join(unknown)}; there are {', '.join(BY_NAME)}")
    return [BY_NAME[name] for name in text.split(",")]


def compare(options: argparse.Namespace, console: Console) -> tuple[list[Row], list[str]]:
    """Run all that can be run; return the rows and the notes."""
    notes = [machine_line(), f"{options.rounds} rounds of {options.seconds} s"]
    notes += skipped({workload.name for workload in options.only})
    rows: list[Row] = []
    servers = contenders(options.journal)
    for workload in options.only:
        if workload.needs_memcaslap and memcaslap_program() is None:
            continue
        notes.append(f"{workload.name}: {workload.description}")
        with console.status("") as status:
            samples = run_rounds(workload, servers, options.rounds, options.seconds, status.update)
        rows += [Row(**vars(medians), workload=workload.name) for medians in summarize(samples)]
    return rows, notes


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print the table and write the files asked for."""
    options = parse_arguments(arguments)
    console = Console()
    try:
        rows, notes = compare(options, console)
    except (LoadError, ServerStartError) as error:
        print(f"{error}", file=sys.stderr)
        return 1
    console.print(as_table(rows))
    for note in notes:
        console.print(note, markup=False, highlight=False)
    if options.json:
        options.json.write_text(as_json(rows, notes))
    if options.markdown:
        options.markdown.write_text(as_markdown(rows, notes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
