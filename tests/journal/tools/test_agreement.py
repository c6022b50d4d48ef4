"""`journal verify` calls sound what a server starts with, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from memcache_kv.errors import JournalError
from memcache_kv.journal import JournalDirectory, disk, recover
from memcache_kv.journal.manifest import MANIFEST_NAME, Manifest, Part, base_name, increment_name
from memcache_kv.journal.record import Record, framed, line_of, set_line
from memcache_kv.journal.tools import scan, snapshot
from memcache_kv.journal.tools.division import DividedJournal
from memcache_kv.journal.tools.export import export_lines
from memcache_kv.journal.tools.snapshot import take_snapshot
from memcache_kv.journal.tools.verify import verify
from tests.journal.journals import as_chained, make_journal, manifest_in, write_manifest
from tests.journal.tools.journals import Run, flip, keys, middle_of, new_store, sets, several_files, tree, write_journal

Spoil = Callable[[Random, Path], None]
ROUNDS = 60
WHOLE = set_line(b"whole", 0, 0, 0, b"value")
CRAFTED = [
    b'"op":"set","key":"a","flags":007,"value":"b"}',
    b'"op":"set","key":"a","flags":99999999999999999999999,"value":"b"}',
    b'"op":"set","key":"a","exp":99999999999999999999999,"value":"b"}',
    b'"op":"set","key":"\xff\xfe","value":"b"}',
    b'"op":"set","key":"a","value":"\xed\xa0\x80"}',
    b'"op":"set","key":"a","value":"\xc3\xa4"}',
    b'"op":"set","key":"a","flags":-1,"value":"b"}',
    b'"op":"set","key":"a","exp":-1,"value":"b"}',
    b'"op":"set","key":"a","cas":18446744073709551615,"value":"b"}',
    b'"op":"set","key":"a","flags":18446744073709551615,"exp":18446744073709551615,"value":"b"}',
    b'"op":"set","value":"b"}',
    b'"op": "set", "key":"a"}',
    b'"op":"set","key":"a","value":"b","value":"c","other":1}',
    b'"op":"touch","key":"a","exp":-5}',
    b'"op":"touch","key":"a","exp":9223372036854775808}',
    b'"op":"mark","key":"a","exp":4294967296,"cas":9223372036854775807,"stale":true}',
    b'"op":"cas","key":"a","cas":-1}',
    b'"op":"flush","at":-1}',
    b'"op":"flush","at":18446744073709551615}',
    b'"op":"time"}',
    b'"op": "end","count":3}',
    b'"op":"end","count":3}',
    b'"op":"start","version":3}',
    b'"op":"start","version":2,"cas":18446744073709551615}',
    b'"op":"unknown"}',
    b'"op":"set","key":7}',
    b"[]",
    b"}",
    b"",
]
TAILS = [
    bytes(1),
    bytes(500),
    WHOLE[:-1],
    WHOLE[:9],
    WHOLE[:-1] + WHOLE[:30],
    b"garbage" + WHOLE[:-1] + b"garbage",
    b"garbage" * 100,
    bytes(300) + WHOLE,
    WHOLE[:-1] * 9,
]


def some_file(random: Random, path: Path) -> Path:
    return random.choice(sorted(file for file in path.iterdir() if file.is_file()))


def flip_bits(random: Random, path: Path) -> None:
    file = some_file(random, path)
    data = bytearray(file.read_bytes())
    for _ in range(random.choice([1, 1, 3])):
        if data:
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    file.write_bytes(data)


def cut(random: Random, path: Path) -> None:
    file = some_file(random, path)
    data = file.read_bytes()
    start, end = sorted((random.randint(0, len(data)), random.randint(0, len(data))))
    file.write_bytes(random.choice([data[:start], data[end:], data[:start] + data[end:], b""]))


def insert(random: Random, path: Path) -> None:
    file = some_file(random, path)
    data = file.read_bytes()
    at = random.choice([0, len(data), random.randint(0, len(data)), data.find(b"\n") + 1])
    piece = random.choice([b"\n", bytes(200), b"x" * 200, b"{", WHOLE, *TAILS])
    file.write_bytes(data[:at] + piece + data[at:])


def move_lines(random: Random, path: Path) -> None:
    file = some_file(random, path)
    lines = file.read_bytes().splitlines(keepends=True)
    if random.random() < 0.5:
        random.shuffle(lines)
    elif lines:
        lines.insert(random.randrange(len(lines)), random.choice(lines))
    file.write_bytes(b"".join(lines))


def remove(random: Random, path: Path) -> None:
    some_file(random, path).unlink()


def rename(random: Random, path: Path) -> None:
    number = random.randint(1, 5)
    some_file(random, path).rename(path / random.choice([base_name(number), increment_name(number)]))


def craft(random: Random, path: Path) -> None:
    """Put something with a right checksum into a file, and let the manifest know of it."""
    file = path / random.choice([part.name for part in manifest_in(path).parts])
    lines = file.read_bytes().splitlines(keepends=True)
    lines.insert(random.randint(0, len(lines)), framed(random.choice(CRAFTED)))
    if file.name.startswith("base") and random.random() < 0.7:
        lines[-1] = line_of(Record("end", at=1, count=len(lines) - 1))
    file.write_bytes(as_chained(b"".join(lines)) if random.random() < 0.8 else b"".join(lines))
    know_lengths(path, lambda part: (path / part.name).stat().st_size)


def know_lengths(path: Path, length: Callable[[Part], int]) -> None:
    old = manifest_in(path)
    parts = [Part(part.name, length(part)) for part in old.parts]
    base = parts.pop(0) if old.base is not None else None
    write_manifest(path, Manifest(3, base, tuple(parts), old.id))


def change_lengths(random: Random, path: Path) -> None:
    know_lengths(path, lambda part: random.choice([part.bytes, part.bytes, 0, -1, part.bytes - 1, part.bytes + 1, 69]))


def change_parts(random: Random, path: Path) -> None:
    old = manifest_in(path)
    increments = list(old.increments)
    random.shuffle(increments)
    base = random.choice([None, old.base, increments[0]])
    write_manifest(path, Manifest(random.choice([3, 3, 4]), base, tuple(increments[: random.randint(0, 3)]), old.id))


def add_tail(random: Random, path: Path) -> None:
    with (path / manifest_in(path).parts[-1].name).open("ab") as file:
        file.write(random.choice(TAILS))
    if random.random() < 0.3:
        know_lengths(path, lambda part: part.bytes + random.choice([0, 1, 50]))


def only_a_tail(random: Random, path: Path) -> None:
    shutil.rmtree(path)
    name = random.choice([increment_name(1), "journal-000001.jsonl"])
    make_journal(path, random.choice([b"", *TAILS]), name=name)
    if name.startswith("journal"):
        (path / MANIFEST_NAME).unlink()


def lose_the_manifest(random: Random, path: Path) -> None:
    (path / MANIFEST_NAME).unlink()
    for file in sorted(path.iterdir()):
        if random.random() < 0.5:
            file.unlink()
        elif random.random() < 0.3:
            file.write_bytes(file.read_bytes()[: random.choice([0, 69, 9])])


def remove_a_line(random: Random, path: Path) -> None:
    file = some_file(random, path)
    lines = file.read_bytes().splitlines(keepends=True)
    del lines[random.randrange(len(lines))]
    file.write_bytes(b"".join(lines))


def repeat_a_line(random: Random, path: Path) -> None:
    file = some_file(random, path)
    lines = file.read_bytes().splitlines(keepends=True)
    at = random.randrange(len(lines))
    file.write_bytes(b"".join([*lines[: at + 1], lines[at], *lines[at + 1 :]]))


def make_a_hole(random: Random, path: Path) -> None:
    file = some_file(random, path)
    data = file.read_bytes()
    start, end = sorted((random.randint(0, len(data)), random.randint(0, len(data) + 50)))
    file.write_bytes(data[:start] + bytes(end - start) + data[end:])


def replace_by_a_foreign_file(random: Random, path: Path) -> None:
    """Put a file of another journal in a file's place; or a file of this one, of another time."""
    file = some_file(random, path)
    other = path.with_name("other")
    if random.random() < 0.7:
        shutil.rmtree(other, ignore_errors=True)
        several_files(other)
    else:
        shutil.copytree(path, other, dirs_exist_ok=True)
        write_journal(other, sets("later", "latest"))
    shutil.copyfile(other / some_file(random, other).name, file)


def unsynced_end(random: Random, path: Path) -> None:
    """Only a part is known to have been on disk, by the manifest or by records; then anything happens to the rest."""
    know_less(random, path)
    file = path / increment_name(random.choice([2, 3, 3]))
    lines = file.read_bytes().splitlines(keepends=True)
    if random.random() < 0.6:
        claimed = random.randint(0, file.stat().st_size)
        lines.insert(random.randint(1, len(lines)), line_of(Record("time", synced=claimed)))
        file.write_bytes(as_chained(b"".join(lines)))
    spoil = random.choice([flip_bits, cut, insert, move_lines, remove_a_line, repeat_a_line, make_a_hole, add_tail])
    spoil(random, path)


def know_less(random: Random, path: Path) -> None:
    """Let the manifest be one of before a rotation, or of before the last writes."""
    old = manifest_in(path)
    increments = [*old.increments]
    if random.random() < 0.5:
        increments.pop()
    last = increments[-1]
    increments[-1] = Part(last.name, random.choice([0, last.bytes, last.bytes // 2]))
    write_manifest(path, Manifest(3, old.base, tuple(increments), old.id))


SPOILS: list[Spoil] = [
    flip_bits, cut, insert, move_lines, remove, rename, craft, change_lengths, change_parts, add_tail, only_a_tail,
    lose_the_manifest, remove_a_line, repeat_a_line, make_a_hole, replace_by_a_foreign_file, unsynced_end,
]  # fmt: skip


def is_sound(path: Path) -> bool:
    try:
        return verify(path).is_sound
    except JournalError:
        return False


def exported(path: Path) -> list[bytes]:
    """What an export has of a journal."""
    with take_snapshot(path) as snapshot, DividedJournal(snapshot) as divided:
        return sorted(export_lines(divided.items()))


def started(path: Path) -> list[bytes] | None:
    """What a server has that starts with a journal, tried on a copy; None if it does not start with one."""
    copy = path.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy)
    with closing(JournalDirectory(copy)) as directory:
        try:
            manifest = directory.open()
            store = new_store()
            if manifest is not None:
                recover(copy, directory.disk, manifest, store)
        except JournalError:
            return None
    return None if manifest is None else sorted(export_lines(store.items()))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is read in small pieces, and little without a line feed is much."""
    monkeypatch.setattr(disk, "BLOCK_BYTES", 64)
    monkeypatch.setattr(snapshot, "BLOCK_BYTES", 64)
    monkeypatch.setattr(scan, "LONGEST_WAIT_BYTES", 128)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
def test_verify_calls_sound_what_a_server_starts_with(tmp_path: Path, spoil: Spoil) -> None:
    whole = several_files(tmp_path / "whole")
    for number in range(ROUNDS):
        random = Random(f"{spoil.__name__} {number}")
        path = tmp_path / "journal"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(whole, path)
        spoil(random, path)
        found = started(path)
        assert is_sound(path) == (found is not None), (number, tree(path))
        if found is not None:
            assert exported(path) == found, (number, tree(path))


def test_each_way_to_spoil_leaves_sound_journals_and_damaged_ones(tmp_path: Path) -> None:
    whole = several_files(tmp_path / "whole")
    for spoil in (make_a_hole, unsynced_end):
        results = set()
        for number in range(20 * ROUNDS):  # few holes are in what may be cut off
            path = tmp_path / f"{spoil.__name__}-{number}"
            shutil.copytree(whole, path)
            spoil(Random(f"{spoil.__name__} {number}"), path)
            results.add(is_sound(path))
            if len(results) == 2:
                break
        assert results == {True, False}, spoil.__name__


def test_a_long_tail_of_zeros_is_an_unfinished_record(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "LONGEST_WAIT_BYTES", 1 << 20)
    journal = several_files(tmp_path / "journal")
    with (journal / "increment-000003.jsonl").open("ab") as file:
        file.write(bytes(3 << 20))
    said = run("verify", journal)
    assert (said.status, f"{3 << 20} bytes of an unfinished record" in said.out) == (0, True)
    assert keys(journal) == "a b c d e f g h i"


@pytest.mark.parametrize("is_damaged", [False, True])
def test_whole_records_in_an_unfinished_tail_are_cut_off_by_a_repair_too(
    tmp_path: Path, run: Run, is_damaged: bool
) -> None:
    journal = several_files(tmp_path / "journal")
    last = journal / "increment-000003.jsonl"
    if is_damaged:
        flip(last, middle_of(last, "value of h"))
    tail = b"x" + WHOLE[:-1] + b"x"
    with last.open("ab") as file:
        file.write(tail)
    assert run("repair", journal, "--yes").status == 0
    assert keys(journal) == ("a b c d e f g i" if is_damaged else "a b c d e f g h i")
    cuts = [cut.read_bytes() for cut in journal.glob("*.cut-*")]
    assert (tail in cuts) == is_damaged
    assert run("verify", journal).status == 0
