"""Attack memcache_kv, and memcached beside it, as one hostile client could; print what others notice.

For each attack: what a client waits that gets one small item every millisecond (99th percentile and longest, of the
server's CPU time; 99th percentile by the clock too), the server's CPU time with those gets, its memory above that
before (at its peak, and after the attacker has left), and the part of the items that is kept. For what observes
requests: the pipelined gets of others in a second of the server's CPU time, beside those without.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.attack_cases import ATTACKS, FULL, QUICK, Size
from benchmarks.attack_runs import (
    Outcome,
    Throughput,
    contenders,
    files,
    median_of,
    median_throughput,
    run,
    throughput,
)
from benchmarks.contenders import NO_MEMCACHED, OURS, machine_line, memcached_program
from benchmarks.durability_report import COUNT, RATIO, SECONDS, SHARE, Column, Section, as_json, as_markdown
from benchmarks.rounds import Tell
from benchmarks.workloads import LoadError
from clients.local_server import ServerStartError

PROMISED_MS = 5.0
"""The 99th percentile of what others wait. memcached's own counts instead where it is longer; with TLS twice that."""
ROUNDS = 3
STOPPED = 130
"""The exit status after Ctrl-C."""
MEBIBYTES = "{:,.1f}"
COLUMNS = (
    Column("attack"), Column("server"), Column("others' p99, ms", SECONDS), Column("longest, ms", SECONDS),
    Column("p99 by the clock", SECONDS),
    Column("CPU, s", SECONDS), Column("MiB more", MEBIBYTES), Column("MiB left over", MEBIBYTES),
    Column("items kept", SHARE), Column("promise"),
)  # fmt: skip
OBSERVED_COLUMNS = (
    Column("attack"), Column("server"), Column("gets per CPU second", COUNT), Column("with it", COUNT),
    Column("with : without", RATIO),
)  # fmt: skip

EXAMPLES = """\
examples:
  MEMCACHED=/opt/memcached/bin/memcached python -m benchmarks.attacks --markdown attacks.md      about 25 minutes
  python -m benchmarks.attacks --quick --only stat-items,memlimit --json found.json"""


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attacks",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one round, fewer items, shorter attacks")
    parser.add_argument("--rounds", type=int, help=f"rounds, alternating (default {ROUNDS}; with --quick 1)")
    parser.add_argument("--only", type=_names, default=list(ATTACKS), help=f"some of {', '.join(ATTACKS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown")
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in ATTACKS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no attack {', '.join(unknown)}; there are {', '.join(ATTACKS)}")
    return names


def measure(names: Sequence[str], rounds: int, size: Size, console: Console) -> list[Section]:
    """Run the attacks one after the other."""
    waits = Section("what others see, what it costs, what is left", COLUMNS)
    observed = Section("pipelined gets of others", OBSERVED_COLUMNS)
    columns = (TextColumn("{task.fields[attack]}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console, refresh_per_second=2) as progress:
        task = progress.add_task("", total=len(names), attack="")
        for name in names:
            progress.update(task, attack=name)
            section = observed if ATTACKS[name].is_observed else waits
            try:
                _add_rows(section, name, rounds, size, lambda text: progress.update(task, description=text))
            except (LoadError, ServerStartError, OSError) as error:
                section.notes.append(f"{name} broke off: {error}")
            progress.advance(task)
    waits.notes.append(f"the promise: a p99 below {PROMISED_MS:g} ms, or at most memcached's; with TLS twice that")
    return [section for section in (waits, observed) if section.rows or section.notes]


def _add_rows(section: Section, name: str, rounds: int, size: Size, tell: Tell) -> None:
    attack = ATTACKS[name]
    waited: dict[str, list[Outcome]] = {}
    observed: dict[str, list[Throughput]] = {}
    with files() as directory:
        servers = contenders(attack, directory)
        for _ in range(rounds):
            for server in servers:
                if attack.is_observed:
                    observed.setdefault(server.name, []).append(throughput(name, server, size, tell))
                else:
                    waited.setdefault(server.name, []).append(run(name, server, size, tell))
    for server_name, throughputs in observed.items():
        found = median_throughput(throughputs)
        section.rows.append((attack.what, server_name, found.before, found.during, found.during / found.before))
    outcomes = {server_name: median_of(each) for server_name, each in waited.items()}
    for server_name, outcome in outcomes.items():
        theirs = [each.p99_ms for other, each in outcomes.items() if other != OURS]
        bound = max([PROMISED_MS, *(p99 * (2 if attack.tls else 1) for p99 in theirs)])
        verdict = ("kept" if outcome.p99_ms <= bound else "NOT KEPT") if server_name == OURS else None
        section.rows.append((
            attack.what, server_name, outcome.p99_ms, outcome.longest_ms, outcome.clock_p99_ms,
            outcome.cpu_seconds, outcome.peak_bytes / 2**20, outcome.left_bytes / 2**20, outcome.kept, verdict,
        ))  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Attack, print the tables and write the files asked for."""
    options = parse_arguments(arguments)
    console = Console()
    rounds = options.rounds or (1 if options.quick else ROUNDS)
    size = QUICK if options.quick else FULL
    notes = [
        machine_line(), f"load before: {os.getloadavg()[0]:.1f}", f"{rounds} rounds, {size.items:,} items",
        *([] if memcached_program() else [NO_MEMCACHED]),
    ]  # fmt: skip
    began = time.monotonic()
    try:
        sections = measure(options.only, rounds, size, console)
    except KeyboardInterrupt:
        print("stopped; all servers have ended", file=sys.stderr)
        return STOPPED
    notes.append(f"took {time.monotonic() - began:.0f} s")
    for section in sections:
        console.print(section.as_table())
    for note in [*(note for section in sections for note in section.notes), *notes]:
        console.print(note, markup=False, highlight=False)
    if options.json:
        options.json.write_text(as_json(sections, notes))
    if options.markdown:
        options.markdown.write_text(as_markdown(sections, notes))
    return 1 if any("broke off" in note for section in sections for note in section.notes) else 0


if __name__ == "__main__":
    sys.exit(main())
