"""The tools need little memory however long the journal is, and say the same as if they had all of it in memory."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

from memcache_kv.cli import main
from memcache_kv.journal import Journal
from memcache_kv.journal.codec import encode_queue, rechained
from memcache_kv.journal.disk import SystemDisk
from memcache_kv.journal.manifest import Manifest, Part, increment_name, replace_manifest
from memcache_kv.journal.record import ENCODED, FORMAT_VERSION, Record, decode_line, line_of
from memcache_kv.journal.tools import division, prefixes
from memcache_kv.journal.tools.division import DividedJournal
from memcache_kv.journal.tools.export import export_lines
from memcache_kv.journal.tools.snapshot import take_snapshot
from memcache_kv.store.entry import STALE, WON, Entry, pack
from tests.journal.journals import manifest_in
from tests.journal.tools.journals import STARTED, Run, opened, several_files, write_journal
from tests.program import Program, environment

MIB = 1 << 20
MOST_BYTES = 100 * MIB
VERY_LONG_MIB = int(os.environ.get("JOURNAL_MIB") or 400)
"""2000 is what was measured; so much on one disk would make the fsyncs of other tests take seconds."""
DAMAGES = 200
FAR = STARTED + 10**9
SEEDS = 40
PEAK = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""
"""Prints a command's exit status and the most memory that it had."""


def long_journal(path: Path, total_bytes: int, value_bytes: int) -> Path:
    """A journal of this length whose values all live; the second half was written a minute later."""
    path.mkdir()
    name = increment_name(1)
    written = number = 0
    line, chain = rechained(line_of(Record("start", at=STARTED, version=FORMAT_VERSION, id="ab" * 8)), 0)
    later: list[Entry] = [ENCODED, line_of(Record("time", at=STARTED + 60))]
    with (path / name).open("wb") as file:
        written += file.write(line)
        while written < total_bytes:
            queue: list[Entry] = []
            if written > total_bytes // 2:
                queue, later = later, []
            for number in range(number, number + max(1, MIB // (value_bytes + 100))):  # noqa: B020  (goes on)
                queue += (b"user%d:%012d" % (number % 100, number), pack(0, b"%d" % number + b"v" * value_bytes))
            number += 1
            lines, chain = encode_queue(queue, 0, chain)
            written += file.write(lines)
    replace_manifest(path, SystemDisk(), Manifest(FORMAT_VERSION, None, (Part(name, written),), "ab" * 8))
    return path


def check_memory(path: Path, *arguments: object) -> None:
    command = [sys.executable, "-m", "memcache_kv", "journal", str(arguments[0]), str(path), *map(str, arguments[1:])]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *command], env=environment(), check=True, capture_output=True, text=True
    )
    ended, peak = map(int, done.stdout.split())
    print(f"{arguments[0]}: {peak // MIB} MiB")
    assert (ended, peak < MOST_BYTES) == (0, True), (arguments, peak, done.stderr)


def damage(journal: Path) -> None:
    """Overwrite a few bytes of some records, and everything in a hundredth of the last increment."""
    [*_, increment] = sorted(journal.glob("increment-*"))
    length = increment.stat().st_size
    with increment.open("r+b") as file:
        for number in range(1, DAMAGES):
            file.seek(length * number // DAMAGES)
            file.write(b"damage")
        file.seek(length // 2)
        for _ in range(length // 100 // MIB):
            file.write(b"damage\n\0" * (MIB // 8))


def check_reading(journal: Path) -> None:
    for command in ("verify", "stats", "export"):
        check_memory(journal, command)


def check_rewriting(journal: Path) -> None:
    check_memory(journal, "restore", "--until", STARTED + 59, "--yes")
    check_memory(journal, "compact")


def check_loading(journal: Path) -> None:
    exported, loaded = journal.with_name("exported"), journal.with_name("loaded")
    assert main(["journal", "export", str(journal), "--output", str(exported)]) == 0
    check_memory(loaded, "load", "--export", exported)


def check_repairing(journal: Path) -> None:
    damage(journal)
    check_memory(journal, "repair", "--yes", "--max-loss", "any")
    check_memory(journal, "verify")


CHECKS = [check_reading, check_rewriting, check_loading, check_repairing]


@pytest.mark.parametrize("check", CHECKS)
def test_the_tools_need_less_memory_than_the_journal_is_long(tmp_path: Path, check: Callable[[Path], None]) -> None:
    check(long_journal(tmp_path / "journal", 110 * MIB, 1000))


def test_large_values_of_a_memcached_are_loaded_one_at_a_time(tmp_path: Path) -> None:
    value = b"v" * (4 * MIB)
    with Program("-p", "0", "-l", "127.0.0.1", "-I", "8m", "-m", "1024") as program:
        for number in range(40):
            assert program.ask(b"set key-%d 0 0 %d\r\n%b\r\n" % (number, len(value), value)) == b"STORED\r\n"
        check_memory(tmp_path / "journal", "load", "--memcached", f"127.0.0.1:{program.port}")
        assert program.end() == 0
    assert len(opened(tmp_path / "journal")) == 40


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("value_bytes", [30, 1000, MIB])
def test_the_tools_need_no_more_memory_for_a_very_long_journal(
    tmp_path: Path, value_bytes: int, check: Callable[[Path], None]
) -> None:
    check(long_journal(tmp_path / "journal", VERY_LONG_MIB * MIB, value_bytes))
    shutil.rmtree(tmp_path)  # pytest would keep it until all of them have ended


def write_anything(random: Random, journal: Journal, rounds: int) -> None:
    """Every kind of record, about a few keys."""
    for number in range(rounds):
        key = random.choice([b"a", b"b", b"c", b"d:1", b"d:2", b'e"quoted"', "ü".encode(), b"\xff\xfe", b"k" * 250])
        expiry = random.choice([0, 0, FAR, STARTED + 5])
        value = random.choice([b"", b"v", b"line\nbreak", bytes(range(256)), b"long" * 300]) + b"%d" % number
        kind = random.randrange(13)
        if kind < 7:
            state = random.choice([0, 0, 0, STALE, STALE | WON])
            journal.stored(key, random.choice([0, 7]), expiry, random.choice([0, 0, 1 + number]), value, state)
        elif kind == 7:
            journal.deleted(key)
        elif kind == 8:
            journal.touched(key, expiry)
        elif kind == 9:
            journal.cas_assigned(key, 1 + number)
        elif kind == 10:
            journal.marked(key, expiry, 1 + number, STALE)
        elif kind == 11:
            journal.new_second(STARTED + number)
        elif random.random() < 0.3:
            journal.flushed(random.choice([0, 0, FAR, STARTED + 5]))


@pytest.fixture
def tiny_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short journal is divided into many shares, which are written to the temporary file many times."""
    monkeypatch.setattr(division, "SHARE_BYTES", 200)
    monkeypatch.setattr(division, "HELD_BYTES", 500)
    monkeypatch.setattr("memcache_kv.journal.tools.snapshot.BLOCK_BYTES", 300)


@pytest.mark.usefixtures("tiny_shares")
def test_divided_items_are_those_of_a_start(tmp_path: Path) -> None:
    waiting = 0
    for seed in range(SEEDS):
        random = Random(seed)
        path = write_journal(
            tmp_path / str(seed),
            lambda journal: write_anything(random, journal, 60),  # noqa: B023  (called at once)
            lambda journal: write_anything(random, journal, 30),  # noqa: B023
        )
        with take_snapshot(path) as snapshot:
            divided = DividedJournal(snapshot)
        store = opened(path)
        store.new_second()
        with divided:
            assert sorted(export_lines(divided.items())) == sorted(export_lines(store.items())), seed
            assert divided.flush_at == store.flush_at, seed
            assert divided.shares > 10
        waiting += store.flush_at > 0
    assert waiting, "no seed leaves a flush that waits"


@pytest.mark.usefixtures("tiny_shares")
def test_the_commands_say_the_same_of_a_divided_journal(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = several_files(tmp_path / "journal")
    divided = sorted(run("export", journal).out.splitlines()), run("stats", journal).out
    monkeypatch.setattr(division, "SHARE_BYTES", MIB)
    monkeypatch.setattr(division, "HELD_BYTES", MIB)
    assert (sorted(run("export", journal).out.splitlines()), run("stats", journal).out) == divided
    assert [json.loads(line)["key"] for line in divided[0]] == list("abcdefghi")


@pytest.mark.usefixtures("tiny_shares")
def test_a_divided_compact_keeps_a_flush_that_waits_and_all_items(tmp_path: Path, run: Run) -> None:
    def writes(journal: Journal) -> None:
        for number in range(50):
            journal.stored(b"key%d" % number, 0, FAR, 0, b"value")
        journal.flushed(FAR)

    journal = write_journal(tmp_path / "journal", writes)
    before = opened(journal)
    assert run("compact", journal).out.startswith("50 items: ")
    after = opened(journal)
    assert (dict(after.items()), after.flush_at) == (dict(before.items()), FAR)
    assert (journal / "base-000002.jsonl").exists()


def lines_until(journal: Path, until: int) -> tuple[bytes, int]:
    """The lines of a journal of one file up to this second, and how many follow them. Its clock was never set."""
    lines = (journal / increment_name(1)).read_bytes().splitlines(keepends=True)
    records = [decode_line(line.removesuffix(b"\n")) for line in lines]
    is_later = [record.op in ("start", "time") and record.at > until for record in records]
    cut = is_later.index(True) if True in is_later else len(lines)
    return b"".join(lines[:cut]), len(lines) - cut


@pytest.mark.usefixtures("tiny_shares")
def test_what_is_restored_in_shares_is_what_a_journal_held_that_ended_then(tmp_path: Path, run: Run) -> None:
    flushes = spilled = 0
    for seed in range(SEEDS):
        random = Random(seed)
        path = write_journal(tmp_path / str(seed), lambda journal: write_anything(random, journal, 60))  # noqa: B023
        until = STARTED + random.randrange(55)
        lines, left_out = lines_until(path, until)
        if not left_out:
            continue
        ended = tmp_path / f"{seed} ended"
        shutil.copytree(path, ended)
        (ended / increment_name(1)).write_bytes(lines)
        manifest = manifest_in(path)
        replace_manifest(ended, SystemDisk(), replace(manifest, increments=(Part(increment_name(1), len(lines)),)))
        expected, now = opened(ended), len(run("export", path).out.splitlines())
        said = run("restore", path, "--until", until, "--yes")
        assert (said.status, f": {len(expected)} items; now {now}\n" in said.out) == (0, True), (seed, said)
        assert f"\n{left_out} records are left out (" in said.out, seed
        restored = opened(path)
        assert sorted(export_lines(restored.items())) == sorted(export_lines(expected.items())), seed
        is_due = 0 < expected.flush_at <= expected.clock.now
        assert restored.flush_at == (0 if is_due else expected.flush_at), seed
        flushes += restored.flush_at > 0 or is_due
        spilled += len(lines) > division.HELD_BYTES
    assert flushes, "no seed leaves a flush that waits"
    assert spilled, "no journal is long"


@pytest.mark.usefixtures("tiny_shares")
@pytest.mark.parametrize("command", [["export"], ["stats"], ["compact"], ["restore", f"--until={2**33}"]])
def test_a_full_temporary_directory_is_named_and_nothing_is_left_there(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    journal = several_files(tmp_path / "journal")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert run(command[0], journal, *command[1:]).status == 0
    assert not list(temporary.iterdir())

    def full(file: object, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("memcache_kv.journal.tools.spill.write_all", full)
    said = run(command[0], journal, *command[1:])
    assert said.status == 1
    assert f"can't write temporary files in {temporary}: No space left on device" in said.err
    assert "TMPDIR" in said.err
    assert not list(temporary.iterdir())
    assert len(opened(journal)) == 9


def test_prefixes_are_counted_exactly_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "MOST_PREFIXES", 7)
    expected = {b"p%d" % number: number % 10 + 1 for number in range(200)}
    with prefixes.PrefixCounts() as counts:
        for each in range(10):
            for prefix, times in expected.items():
                if each < times:
                    counts.count(prefix, 1, 100)
        found = counts.top(25)
    largest = sorted(expected, key=lambda prefix: (-expected[prefix], prefix))[:25]
    assert [(prefix, counted.items, counted.bytes) for prefix, counted in found] == [
        (prefix, expected[prefix], 100 * expected[prefix]) for prefix in largest
    ]
