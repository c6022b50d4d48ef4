"""Measure what keeping data on disk costs memcache_kv, beside Redis 7 (appendonly yes) on this machine.

everysec: throughput with a journal synced every second, compared with none. always: throughput where each write is
on disk before it is answered, and how many writes share an fsync. replay: how fast a start reads a million records.
compaction: what clients notice while the journal is rewritten. policies: throughput under each policy. slow: latencies
while each fsync takes 50 ms longer. kills: acknowledged writes that are missing after kill -9. large: starts that read
five million records, and two gigabytes of values. Rounds alternate the servers; the figures are medians,
ratios are taken within a round. Load and server share the machine's cores.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console

from benchmarks.durability_compaction import compaction
from benchmarks.durability_kills import kills
from benchmarks.durability_large import large_replay
from benchmarks.durability_policies import policies, slow_syncs
from benchmarks.durability_replay import replay
from benchmarks.durability_report import Section, as_json, as_markdown
from benchmarks.durability_rounds import Tell, always, everysec
from benchmarks.durability_servers import NO_REDIS, machine_line, redis_program, strace_program
from benchmarks.workloads import LoadError
from clients.local_server import ServerStartError

EXAMPLES = """\
examples:
  python benchmarks/durability.py                        about 20 minutes
  python benchmarks/durability.py --quick --only everysec,always
  REDIS_SERVER=/opt/redis/bin/redis-server python benchmarks/durability.py --directory /mnt/disk --json found.json"""


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int
    seconds: float
    records: int
    """Of the replay, and items of the compaction."""
    replays: int
    before_seconds: float
    """How long the load is measured before a compaction."""
    kills: int
    """Of each server under each policy."""
    large_records: int
    large_bytes: int
    """Of values, in the large replay."""


FULL = Effort(
    rounds=5, seconds=4, records=1_000_000, replays=3, before_seconds=10,
    kills=100, large_records=5_000_000, large_bytes=2_000_000_000,
)  # fmt: skip
QUICK = Effort(
    rounds=1, seconds=2, records=100_000, replays=1, before_seconds=3,
    kills=20, large_records=500_000, large_bytes=200_000_000,
)  # fmt: skip

Part = Callable[[Path, Effort, Tell], Section]

PARTS: dict[str, Part] = {
    "everysec": lambda directory, effort, tell: everysec(directory, effort.rounds, effort.seconds, tell),
    "always": lambda directory, effort, tell: always(directory, effort.rounds, effort.seconds, tell),
    "replay": lambda directory, effort, tell: replay(directory, effort.replays, effort.records, tell),
    "compaction": lambda directory, effort, tell: compaction(directory, effort.records, effort.before_seconds, tell),
    "policies": lambda directory, effort, tell: policies(directory, effort.rounds, effort.seconds, tell),
    "slow": lambda directory, effort, tell: slow_syncs(directory, effort.rounds, effort.seconds, tell),
    "kills": lambda directory, effort, tell: kills(directory, effort.kills, tell),
    "large": lambda directory, effort, tell: large_replay(
        directory, effort.replays, effort.large_records, effort.large_bytes, tell
    ),
}


def skipped() -> list[str]:
    """Say what cannot be run here, and what would change that."""
    if redis_program() is None:
        return [NO_REDIS]
    if strace_program() is None:
        return ["the count of Redis' fsyncs, and Redis on a slow disk, skipped: strace not found"]
    return []


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="durability.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one short round, a tenth of the records")
    parser.add_argument("--rounds", type=int, help="rounds, alternating (default 5, of the replay 3; with --quick 1)")
    parser.add_argument("--only", type=_parts, default=list(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument(
        "--directory",
        type=lambda text: Path(text).resolve(),
        default=Path(tempfile.gettempdir()),
        help="where the servers keep their files; on a real disk (default: the directory for temporary files)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown")
    return parser.parse_args(arguments)


def _parts(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return names


def measure(options: argparse.Namespace, console: Console) -> tuple[list[Section], list[str]]:
    """Run all parts that are asked for; return what they found, and the notes."""
    effort = QUICK if options.quick else FULL
    if options.rounds:
        effort = replace(effort, rounds=options.rounds, replays=options.rounds)
    notes = [machine_line(options.directory), f"{effort.rounds} rounds of {effort.seconds:g} s", *skipped()]
    sections = []
    with console.status("") as status:
        for name in options.only:
            sections.append(PARTS[name](options.directory, effort, status.update))
    return sections, notes


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables and write the files asked for."""
    options = parse_arguments(arguments)
    console = Console()
    try:
        sections, notes = measure(options, console)
    except (LoadError, ServerStartError, OSError) as error:
        print(f"{error}", file=sys.stderr)
        return 1
    for section in sections:
        console.print(section.as_table())
        for note in section.notes:
            console.print(note, markup=False, highlight=False)
    for note in notes:
        console.print(note, markup=False, highlight=False)
    if options.json:
        options.json.write_text(as_json(sections, notes))
    if options.markdown:
        options.markdown.write_text(as_markdown(sections, notes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
