"""Measure memcache_kv beside memcached on this machine, in alternating rounds.

Every round runs each workload once against each server, freshly started, so that a slow moment of the machine
meets all of them alike. The table gives the medians over the rounds of the throughput and of the server's CPU
time per operation, and the medians of the ratios memcache_kv / memcached taken within one round: throughput
above 1 and CPU below 1 mean that memcache_kv does better. Load and server share the machine's cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks.workloads import WORKLOADS, LoadError, Workload, memcaslap_program
from clients.local_server import LocalServer, ServerStartError, default_command

MEMORY_MEGABYTES = 1024
OURS = "memcache_kv"
OURS_WITH_JOURNAL = "memcache_kv, journal everysec"
BASELINE = "memcached -t 1"
COLUMNS = ("workload", "server", "ops/s", "CPU µs/op", "ops/s : memcached -t 1", "CPU : memcached -t 1")

EXAMPLES = """\
examples:
  python benchmarks/compare.py                        5 rounds of 4 s, about 3 minutes
  python benchmarks/compare.py --rounds 3 --seconds 2 --only get90,pipe32
  MEMCACHED=/opt/memcached/bin/memcached python benchmarks/compare.py --journal --markdown compare.md"""


@dataclass(frozen=True)
class Contender:
    """Name a server and the command that starts it."""

    name: str
    command: tuple[str, ...]
    journal: bool = False


@dataclass(frozen=True)
class Sample:
    """Hold the figures of one workload against one server in one round."""

    operations_per_second: float
    cpu_microseconds: float


@dataclass(frozen=True)
class Row:
    """Hold the medians of one workload against one server; no ratios without a memcached beside it."""

    workload: str
    server: str
    operations_per_second: float
    cpu_microseconds: float
    throughput_ratio: float | None
    cpu_ratio: float | None

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


Samples = dict[str, list[Sample]]
"""The samples of one workload by server, one a round."""


def memcached_program() -> str | None:
    """Find memcached by the environment's MEMCACHED, or on the PATH."""
    return shutil.which(os.environ.get("MEMCACHED") or "memcached")


def contenders(with_journal: bool) -> list[Contender]:
    """List the servers that can be run here."""
    ours = (*default_command(), "-m", str(MEMORY_MEGABYTES))
    found = [Contender(OURS, ours)]
    if with_journal:
        found.append(Contender(OURS_WITH_JOURNAL, (*ours, "--fsync", "everysec"), journal=True))
    program = memcached_program()
    if program:
        user = ("-u", "root") if os.geteuid() == 0 else ()
        theirs = (program, *user, "-U", "0", "-m", str(MEMORY_MEGABYTES))
        found.append(Contender(BASELINE, (*theirs, "-t", "1")))
        found.append(Contender("memcached", theirs))
    return found


def measure(contender: Contender, workload: Workload, seconds: int) -> Sample:
    """Start a server, run one workload and take its figures."""
    with tempfile.TemporaryDirectory(prefix="compare.") as directory:
        arguments = ["--journal", directory] if contender.journal else []
        with LocalServer(contender.command, arguments) as server:
            cpu_before = server.cpu_seconds()
            operations = workload.run(server.address.port, seconds)
            cpu_seconds = server.cpu_seconds() - cpu_before
    return Sample(operations / seconds, cpu_seconds / operations * 1e6)


def run_workload(
    workload: Workload,
    servers: list[Contender],
    options: argparse.Namespace,
    console: Console,
) -> Samples:
    """Run the rounds of one workload, the servers taking turns."""
    samples: Samples = {contender.name: [] for contender in servers}
    for number in range(options.rounds):
        for contender in servers if number % 2 == 0 else reversed(servers):
            with console.status(f"{workload.name}, round {number + 1} of {options.rounds}: {contender.name}"):
                samples[contender.name].append(measure(contender, workload, options.seconds))
    return samples


def summarize(workload: str, samples: Samples) -> list[Row]:
    """Take the medians, and those of the ratios to memcached -t 1 round by round."""
    baseline = samples.get(BASELINE)
    return [_row(workload, server, own, baseline) for server, own in samples.items()]


def _row(workload: str, server: str, own: list[Sample], baseline: list[Sample] | None) -> Row:
    pairs = list(zip(own, baseline, strict=True)) if baseline and server != BASELINE else []
    throughput = [a.operations_per_second / b.operations_per_second for a, b in pairs]
    cpu = [a.cpu_microseconds / b.cpu_microseconds for a, b in pairs if b.cpu_microseconds]
    return Row(
        workload,
        server,
        statistics.median(sample.operations_per_second for sample in own),
        statistics.median(sample.cpu_microseconds for sample in own),
        _median_or_none(throughput),
        _median_or_none(cpu),
    )


def _median_or_none(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def skipped(wanted: set[str]) -> list[str]:
    """Say what cannot be run here, and what would change that."""
    reasons = []
    if memcached_program() is None:
        reasons.append("memcached skipped: not found; install it or set MEMCACHED to its path")
    if memcaslap_program() is None:
        names = ", ".join(work.name for work in WORKLOADS if work.needs_memcaslap and work.name in wanted)
        if names:
            reasons.append(f"{names} skipped: memcaslap not found; Debian has it in libmemcached-tools")
    return reasons


def machine_line() -> str:
    """Describe what the figures were taken on."""
    program = memcached_program()
    version = ""
    if program:
        output = subprocess.run([program, "-V"], capture_output=True, text=True, check=False).stdout
        match = re.search(r"memcached (\S+)", output)
        version = f", memcached {match[1]}" if match else ""
    return (
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()},"
        f" {platform.python_implementation()} {platform.python_version()}{version}"
    )


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
    parser.add_argument("--only", type=_workloads, default=list(WORKLOADS), help=f"some of {names}")
    parser.add_argument("--journal", action="store_true", help="measure memcache_kv with a journal, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table as Markdown")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def _workloads(text: str) -> list[Workload]:
    known = {workload.name: workload for workload in WORKLOADS}
    unknown = [name for name in text.split(",") if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"no workload {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in text.split(",")]


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
        samples = run_workload(workload, servers, options, console)
        rows += summarize(workload.name, samples)
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
