"""Measure everything that memcache_kv is compared by, with memcached beside it in the same run.

Writes benchmarks.json, benchmarks.md and the plots as *.svg. What cannot be run here is left out, with the reason.
Loads, TLS, line, profile, threads, always, replay and rewrite are measured for each interpreter, with its compiled
modules and without them (MEMCACHE_KV_PURE=1); everything else for the interpreter that runs this program, as its
environment has it.
Load and servers share this machine's cores: figures are worth comparing within a run, on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.contenders import NO_MEMCACHED, machine_line, memcached_program
from benchmarks.durability_report import Column, Section
from benchmarks.page import update
from benchmarks.part_connections import connections
from benchmarks.part_durability import always, beside_redis, replaying, rewriting
from benchmarks.part_eviction import eviction
from benchmarks.part_fixtures import fixtures
from benchmarks.part_latency import fairness, tails
from benchmarks.part_line import line
from benchmarks.part_loads import curves, loads, threads
from benchmarks.part_memory import memory
from benchmarks.part_profile import request_times
from benchmarks.part_recorded import recorded
from benchmarks.part_saturated import saturated
from benchmarks.part_start import start
from benchmarks.part_tls import tls
from benchmarks.parts import FULL, QUICK, Effort, Findings, Part, Target
from benchmarks.pipelined_load import UnexpectedReplyError
from benchmarks.recorded_traces import INTERRUPTED
from benchmarks.rounds import Tell
from benchmarks.ways import ways_of
from benchmarks.workloads import NO_MEMCASLAP, LoadError, memcaslap_program
from clients.local_server import ServerStartError

EXAMPLES = """\
examples:
  python -m benchmarks.all --output found             everything, about 20 minutes
  python -m benchmarks.all --quick                    the same, shorter and less sure, about 6 minutes
  python -m benchmarks.all --python .venv/bin/python --python .venv313/bin/python --page
                                                      two interpreters, into the documentation; under 30 minutes
  MEMCACHED=/opt/memcached/bin/memcached python -m benchmarks.all --only loads,memory --rounds 3"""

PARTS: dict[str, Part] = {
    "loads": loads,
    "saturated": saturated,
    "tls": tls,
    "line": line,
    "profile": request_times,
    "threads": threads,
    "always": always,
    "replay": replaying,
    "rewrite": rewriting,
    "durability": beside_redis,
    "eviction": eviction,
    "recorded": recorded,
    "memory": memory,
    "connections": connections,
    "fairness": fairness,
    "tails": tails,
    "start": start,
    "fixtures": fixtures,
    "curves": curves,
}
ERRORS = (LoadError, ServerStartError, UnexpectedReplyError, OSError)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.all",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one short round of each, fewer items")
    parser.add_argument("--only", type=_parts, default=list(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--output", type=Path, default=Path("found"), metavar="DIR", help="(default: ./found)")
    parser.add_argument("--rounds", type=int, metavar="N", help="alternating rounds of each load (default 5)")
    parser.add_argument(
        "--python", action="append", metavar="PATH", help="an interpreter that runs memcache_kv (default: this one);"
        " may be repeated",
    )  # fmt: skip
    parser.add_argument("--page", action="store_true", help="write the figures into the documentation, too")
    parser.add_argument(
        "--requests", type=int, metavar="N", help=f"of each trace for the hit ratios (default {FULL.requests:,})"
    )
    parser.add_argument(
        "--overwrites", type=int, metavar="N", help=f"of the churned memory (default {FULL.overwrites:,})"
    )
    return parser.parse_args(arguments)


def _parts(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return names


def effort_of(options: argparse.Namespace) -> Effort:
    """Tell how much is to be measured."""
    effort = QUICK if options.quick else FULL
    effort = replace(effort, ways=tuple(ways_of(options.python or [sys.executable])))
    return replace(
        effort,
        rounds=options.rounds or effort.rounds,
        requests=options.requests or effort.requests,
        overwrites=options.overwrites or effort.overwrites,
    )


def measure(names: Sequence[str], effort: Effort, console: Console) -> dict[str, Findings]:
    """Run the parts one after the other; one that breaks off leaves its reason, and the others go on.

    Ctrl-C ends the part that runs and leaves out the rest; what was found before is returned.
    """
    found = {}
    columns = (TextColumn("{task.fields[part]}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console, refresh_per_second=2) as progress:
        task = progress.add_task("", total=len(names), part="")
        for name in names:
            progress.update(task, part=name)
            try:
                found[name] = run_part(name, effort, lambda text: progress.update(task, description=text))
            except KeyboardInterrupt:
                progress.console.print(f"interrupted at {name}", markup=False)
                break
            progress.advance(task)
    return found


def run_part(name: str, effort: Effort, tell: Tell) -> Findings:
    """Run one part."""
    began = time.monotonic()
    try:
        findings = PARTS[name](effort, tell)
    except ERRORS as error:
        return Findings([Section(name, (), notes=[f"{name} broke off: {error}"])])
    findings.sections[-1].notes.append(f"{name} took {time.monotonic() - began:.0f} s")
    return findings


def skipped() -> list[str]:
    """Say what cannot be run here, and what would change that."""
    notes = [] if memcached_program() else [NO_MEMCACHED]
    return notes if memcaslap_program() else [*notes, f"some loads skipped: {NO_MEMCASLAP}"]


def target_section(targets: Sequence[Target]) -> Section:
    """List the targets beside what was found."""
    columns = (Column("target"), Column("way"), Column("found", "{:,.4g}"), Column("bound"), Column("met"))
    section = Section("targets", columns)
    met = {None: "", True: "yes", False: "NO"}
    for target in targets:
        bound = "" if target.bound is None else f"{'>=' if target.at_least else '<='} {target.bound:g}"
        section.rows.append((target.name, target.way, target.found, bound, met[target.met]))
    return section


def as_markdown(found: dict[str, Findings], notes: Sequence[str]) -> str:
    """Lay everything out as Markdown: the notes, the targets, and each part with its plots."""
    parts = ["# Benchmarks\n", "".join(f"- {note}\n" for note in notes)]
    parts.append(target_section([target for each in found.values() for target in each.targets]).as_markdown())
    for name, findings in found.items():
        parts.append(f"## {name}\n")
        parts += [section.as_markdown() for section in findings.sections]
        parts += [f"![{chart.title}]({file}.svg)\n" for file, chart in findings.charts.items()]
    return "\n".join(parts)


def as_json(found: dict[str, Findings], notes: Sequence[str]) -> str:
    """Spell everything as JSON, as `benchmarks.page` reads it.

    The notes go with each part, as the documents may show parts of several runs.
    """
    parts = {
        name: {
            "notes": list(notes),
            "sections": [section.as_dict() for section in findings.sections],
            "targets": [{**vars(target), "met": target.met} for target in findings.targets],
            "charts": {file: chart.title for file, chart in findings.charts.items()},
        }
        for name, findings in found.items()
    }
    return json.dumps({"parts": parts}, indent=1) + "\n"


def write(directory: Path, found: dict[str, Findings], notes: Sequence[str]) -> None:
    """Write the figures, the tables and the plots."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "benchmarks.json").write_text(as_json(found, notes))
    (directory / "benchmarks.md").write_text(as_markdown(found, notes))
    for findings in found.values():
        for name, chart in findings.charts.items():
            (directory / f"{name}.svg").write_text(chart.svg())


def notes_of(effort: Effort) -> list[str]:
    """Tell of what the figures are."""
    ways = [f"{index}: {way.label}" for index, way in enumerate(effort.ways, 1)]
    return [
        f"measured on {date.today():%Y-%m-%d}: {machine_line()}; load before: {os.getloadavg()[0]:.1f}",
        f"{effort.rounds} rounds of {effort.seconds} s; memcache_kv in these ways: {'; '.join(ways)}",
        "figures that name no way are of this interpreter",
        *skipped(),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables and write the files."""
    options = parse_arguments(arguments)
    console = Console()
    try:
        effort = effort_of(options)
    except LoadError as error:
        print(f"{error}", file=sys.stderr)
        return 1
    notes, began = notes_of(effort), time.monotonic()
    found = measure(options.only, effort, console)
    notes.append(f"all parts took {time.monotonic() - began:.0f} s")
    for findings in found.values():
        for section in findings.sections:
            console.print(section.as_table())
            for note in section.notes:
                console.print(note, markup=False, highlight=False)
    console.print(target_section([target for each in found.values() for target in each.targets]).as_table())
    write(options.output, found, notes)
    console.print(f"written to {options.output}", markup=False)
    if len(found) < len(options.only):
        return INTERRUPTED
    if options.page:
        update(options.output)
        console.print("and into the documentation", markup=False)
    return 0 if all(findings.sections[0].columns for findings in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
