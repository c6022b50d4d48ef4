"""How long a start takes that reads a large journal, and how much memory it takes, beside Redis."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.durability_replay import SAID, pairs, write_aof, write_journal
from benchmarks.durability_report import COUNT, RATIO, SECONDS, Column, Figure, Section
from benchmarks.durability_rounds import Tell
from benchmarks.durability_servers import OURS, REDIS, ServerProcess, Start, ours, redis, redis_program
from benchmarks.workloads import LoadError

COLUMNS = (
    Column("read"), Column("server"), Column("own s", SECONDS), Column("Redis :", RATIO),
    Column("exec to ready, s", SECONDS), Column("peak MB", COUNT), Column("MB on disk", COUNT),
)  # fmt: skip
VALUE_BYTES = 100_000
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Content:
    """What is read: so many records, made by a function."""

    title: str
    count: int
    make: Callable[[int], Iterator[tuple[bytes, bytes]]]


def large_pairs(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Make large values of text."""
    for number in range(count):
        yield b"key-%d" % number, (b"%d " % number).ljust(VALUE_BYTES, b"x")


def large_replay(directory: Path, rounds: int, records: int, value_bytes: int, tell: Tell) -> Section:
    """Compare starts that read many small records, and that read so many bytes of large values.

    The servers take turns, and the figures are the medians of the rounds. Who reads first in a round changes, as the
    memory that a machine's host has not given yet costs the first one most.
    """
    contents = (
        Content(f"{records:,} small records", records, pairs),
        Content(f"{value_bytes / 1e9:g} GB of values", value_bytes // VALUE_BYTES, large_pairs),
    )
    section = Section("large replay", COLUMNS)
    for content in contents:
        with tempfile.TemporaryDirectory(prefix="durability.", dir=directory) as name:
            section.rows += _rows(content, Path(name), rounds, tell)
    section.notes += [
        f"small: keys of 36 bytes, values of 35, as they were appended; values of {VALUE_BYTES:,} bytes of text",
        "all files are in the page cache; own s: as the server says",
        "peak MB: the most memory that the process had occupied when it was ready",
    ]
    return section


def _rows(content: Content, files: Path, rounds: int, tell: Tell) -> list[tuple[Figure, ...]]:
    tell(f"writing {content.title}")
    starts: dict[str, Start] = {OURS: ours(files / OURS)}
    write_journal(files / OURS, content.count, content.make)
    if redis_program():
        starts[REDIS] = redis(files / REDIS, "everysec")
        write_aof(files / REDIS, content.count, content.make)
    os.sync()  # otherwise the system writes all this out while the first of them reads
    samples: dict[str, list[tuple[float, float, float]]] = {name: [] for name in starts}
    for number in range(rounds):
        for name, start in list(starts.items())[:: -1 if number % 2 else 1]:
            tell(f"reading {content.title}: {name}, round {number + 1} of {rounds}")
            _read_into_cache(files / name)
            samples[name].append(_measure(start, files / "log", content.count))
    found = {name: [*map(statistics.median, zip(*own, strict=True))] for name, own in samples.items()}
    theirs = found[REDIS][0] if REDIS in found else None
    return [
        (content.title, name, own, theirs / own if theirs and name != REDIS else None, ready, peak, _size(files / name))
        for name, (own, ready, peak) in found.items()
    ]


def _read_into_cache(directory: Path) -> None:
    """Read all files, so that no server waits for the disk longer than another because its files are older."""
    for file in directory.rglob("*"):
        if file.is_file():
            with file.open("rb", buffering=0) as content:
                while content.read(READ_BYTES):
                    pass


def _size(directory: Path) -> float:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()) / 1e6


def _measure(start: Start, log: Path, count: int) -> tuple[float, float, float]:
    """Return the seconds that the server says, those until it answers, and the peak in megabytes."""
    with ServerProcess(start, log) as server:
        said = SAID[server.kind.name].findall(server.said())
        peak = server.peak_bytes() / 1e6
        is_ours = server.kind.name == OURS
        kept = server.stats()["curr_items"] if is_ours else server.ask(b"DBSIZE\r\n").strip(":\r\n")
    if not said or int(kept) != count:
        raise LoadError(f"{server.kind.name} has {kept} items instead of {count}: {server.said()[-1000:]}")
    return float(said[-1][1] if is_ours else said[-1]), server.ready_seconds, peak
