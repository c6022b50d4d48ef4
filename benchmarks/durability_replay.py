"""How long a start takes that reads a million records back."""

from __future__ import annotations

import random
import re
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from benchmarks.durability_report import COUNT, RATIO, SECONDS, Column, Figure, Section
from benchmarks.durability_rounds import Tell
from benchmarks.durability_servers import OURS, REDIS, ServerProcess, Start, ours, redis, redis_program
from benchmarks.ways import Way
from benchmarks.workloads import LoadError
from memcache_kv.journal import Fsync, Journal, JournalDirectory

COLUMNS = (
    Column("read"), Column("server"), Column("records/s", COUNT), Column(": Redis", RATIO),
    Column("own s", SECONDS), Column("exec to ready, s", SECONDS), Column("MB", COUNT),
)  # fmt: skip
LOG, REWRITTEN = "log", "rewritten"
SAID = {
    OURS: re.compile(r"recovered (\d+) items from \d+ records in ([\d.]+) s"),
    REDIS: re.compile(r"DB loaded from append only file: ([\d.]+) seconds"),
}
AOF_NAME = "appendonly.aof.1.incr.aof"
RECORDS_AT_ONCE = 10_000
LARGE_BYTES = 10_000
"""Larger values are written one by one."""
REWRITE_SECONDS = 300.0
LOOK_SECONDS = 0.05

Sample = tuple[float, float]
"""The seconds that the server says it took, and those from exec until it answered."""


def pairs(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Make keys of 36 bytes and values of 35: the same ones each time."""
    rng = random.Random(7)
    for number in range(count):
        yield str(uuid.UUID(int=rng.getrandbits(128))).encode(), b"value of %026d" % number


Pairs = Callable[[int], Iterator[tuple[bytes, bytes]]]
"""Makes so many keys and values."""


def write_journal(path: Path, count: int, make: Pairs = pairs) -> None:
    """Write a journal that only stores, without a base."""
    directory = JournalDirectory(path)
    journal = Journal(directory, Fsync.NEVER, directory.open())
    for number, (key, value) in enumerate(make(count)):
        journal.stored(key, 0, 0, 0, value)
        if number % RECORDS_AT_ONCE == 0 or len(value) > LARGE_BYTES:
            journal.step()
    journal.close()
    directory.close()


def write_aof(path: Path, count: int, make: Pairs = pairs) -> None:
    """Write Redis' files for the same, without a base."""
    files = path / "appendonlydir"
    files.mkdir(parents=True)
    with (files / AOF_NAME).open("wb") as file:
        file.write(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n")
        every = make(count)
        while batch := list(islice(every, RECORDS_AT_ONCE // 20)):
            file.writelines(b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(k), k, len(v), v) for k, v in batch)
    (files / "appendonly.aof.manifest").write_text(f"file {AOF_NAME} seq 1 type i\n")


def rewrite(server: ServerProcess) -> float:
    """Have a server rewrite its files, wait until it has, and return how long that took. Raises LoadError."""
    is_ours = server.kind.name == OURS
    began = time.monotonic()
    server.ask(b"journal compact\r\n" if is_ours else b"BGREWRITEAOF\r\n")
    name = "memcache_kv_journal_compacting" if is_ours else "aof_rewrite_in_progress"
    while server.stats()[name] != "0":
        if time.monotonic() - began > REWRITE_SECONDS:
            raise LoadError(f"{server.kind.name} did not end its rewrite in {REWRITE_SECONDS:g} s")
        time.sleep(LOOK_SECONDS)
    return time.monotonic() - began


def replay(directory: Path, rounds: int, count: int, tell: Tell, ways: Sequence[Way] = ()) -> Section:
    """Compare the starts from a log, and from what a rewrite made of it.

    ways: those that read our journal; this interpreter's if none are given.
    """
    section = Section(f"replay: {count:,} records, all of other keys, 36 + 35 bytes", COLUMNS)
    with tempfile.TemporaryDirectory(prefix="durability.", dir=directory) as name:
        files = Path(name)
        starts = {way.named(OURS): ours(files / OURS, way=way) for way in ways} or {OURS: ours(files / OURS)}
        tell("writing the journal")
        write_journal(files / OURS, count)
        if redis_program():
            starts[REDIS] = redis(files / REDIS, "everysec")
            write_aof(files / REDIS, count)
        for read in (LOG, REWRITTEN):
            if read == REWRITTEN:
                _rewrite_all(starts, files, tell)
            section.rows += _rows(read, count, starts, files, rounds, tell)
    section.notes.append("rewritten: a base of ours, in the same format as the log; Redis' default, a snapshot (RDB)")
    section.notes.append("own s: as the server says; records/s: by these; the files are in the system's cache")
    return section


def _rewrite_all(starts: dict[str, Start], files: Path, tell: Tell) -> None:
    for name, start in {start.kind.name: start for start in starts.values()}.items():
        tell(f"rewriting: {name}")
        with ServerProcess(start, files / "log") as server:
            rewrite(server)


def _rows(
    read: str, count: int, starts: dict[str, Start], files: Path, rounds: int, tell: Tell
) -> list[tuple[Figure, ...]]:
    samples: dict[str, list[Sample]] = {name: [] for name in starts}
    for number in range(rounds):
        for name, start in starts.items():
            tell(f"replay of the {read}, round {number + 1} of {rounds}: {name}")
            samples[name].append(_measure(start, files, count))
    return [
        _row(read, name, count, own, samples.get(REDIS), files / starts[name].kind.name)
        for name, own in samples.items()
    ]


def _measure(start: Start, files: Path, count: int) -> Sample:
    with ServerProcess(start, files / "log") as server:
        said = SAID[server.kind.name].findall(server.said())
        kept = server.stats()["curr_items"] if server.kind.name == OURS else server.ask(b"DBSIZE\r\n").strip(":\r\n")
    if not said or int(kept) != count:
        raise LoadError(f"{server.kind.name} has {kept} items instead of {count}: {server.said()[-1000:]}")
    seconds = said[-1][1] if server.kind.name == OURS else said[-1]
    return float(seconds), server.ready_seconds


def _row(
    read: str, name: str, count: int, own: list[Sample], theirs: list[Sample] | None, path: Path
) -> tuple[Figure, ...]:
    rates = [count / max(seconds, 0.001) for seconds, _ in own]
    beside = list(zip(own, theirs, strict=True)) if theirs and name != REDIS else []
    return (
        read,
        name,
        statistics.median(rates),
        statistics.median(b[0] / a[0] for a, b in beside) if beside else None,
        statistics.median(sample[0] for sample in own),
        statistics.median(sample[1] for sample in own),
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6,
    )
