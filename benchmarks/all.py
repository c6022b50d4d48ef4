"""Measure everything that memcache_kv is compared by, with memcached beside it in the same run.

Writes benchmarks.json, benchmarks.md and the plots as *.svg. What cannot be run here is left out, with the reason.
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
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.contenders import NO_MEMCACHED, machine_line, memcached_program
from benchmarks.durability_report import Column, Section
from benchmarks.part_connections import connections
from benchmarks.part_eviction import eviction
from benchmarks.part_latency import fairness, tails
from benchmarks.part_loads import curves, loads, threads
from benchmarks.part_memory import memory
from benchmarks.part_recorded import recorded
from benchmarks.part_start import start
from benchmarks.parts import FULL, QUICK, Effort, Findings, Part, Target
from benchmarks.pipelined_load import UnexpectedReplyError
from benchmarks.recorded_traces import INTERRUPTED
from benchmarks.rounds import Tell
from benchmarks.workloads import NO_MEMCASLAP, LoadError, memcaslap_program
from clients.local_server import ServerStartError

EXAMPLES = """\
examples:
  python -m benchmarks.all --output found             everything, about 45 minutes
  python -m benchmarks.all --quick                    the same, shorter and less sure, about 5 minutes
  MEMCACHED=/opt/memcached/bin/memcached python -m benchmarks.all --only loads,memory --rounds 3"""

PARTS: dict[str, Part] = {
    "loads": loads,
    "eviction": eviction,
    "recorded": recorded,
    "memory": memory,
    "connections": connections,
    "fairness": fairness,
    "tails": tails,
    "start": start,
    "threads": threads,
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
    return replace(effort, rounds=options.rounds or effort.rounds, overwrites=options.overwrites or effort.overwrites)


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
    columns = (Column("target"), Column("found", "{:,.4g}"), Column("bound"), Column("met"))
    section = Section("targets", columns)
    for target in targets:
        bound = f"{'>=' if target.at_least else '<='} {target.bound:g}"
        section.rows.append((target.name, target.found, bound, "yes" if target.met else "NO"))
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
    """Spell everything as JSON."""
    parts = {
        name: {
            "sections": {section.title: _section(section) for section in findings.sections},
            "targets": [{**vars(target), "met": target.met} for target in findings.targets],
        }
        for name, findings in found.items()
    }
    return json.dumps({"notes": list(notes), "parts": parts}, indent=2) + "\n"


def _section(section: Section) -> dict[str, object]:
    names = [column.name for column in section.columns]
    return {"rows": [dict(zip(names, row, strict=True)) for row in section.rows], "notes": section.notes}


def write(directory: Path, found: dict[str, Findings], notes: Sequence[str]) -> None:
    """Write the figures, the tables and the plots."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "benchmarks.json").write_text(as_json(found, notes))
    (directory / "benchmarks.md").write_text(as_markdown(found, notes))
    for findings in found.values():
        for name, chart in findings.charts.items():
            (directory / f"{name}.svg").write_text(chart.svg())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables and write the files."""
    options = parse_arguments(arguments)
    console = Console()
    effort = effort_of(options)
    notes = [machine_line(), f"load before: {os.getloadavg()[0]:.1f}", f"{effort}", *skipped()]
    found = measure(options.only, effort, console)
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
    return 0 if all(findings.sections[0].columns for findings in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
