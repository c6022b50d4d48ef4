"""`journal repair`: what is damaged goes, is kept beside, and all else stays."""

import errno
import os
import random
import re
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from memcache_kv.errors import JournalError
from memcache_kv.journal import Journal, JournalDirectory, recover
from memcache_kv.journal.record import Record, line_of
from memcache_kv.journal.tools.verify import verify
from tests.journal.tools.journals import (
    Run,
    contents,
    flip,
    keys,
    middle_of,
    new_store,
    opened,
    sets,
    several_files,
    tree,
    write_journal,
)

ALL = "a b c d e f g h i"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal of three files."""
    return several_files(tmp_path / "journal")


def without(*gone: str) -> str:
    return " ".join(key for key in ALL.split() if key not in gone)


def damage(journal: Path, name: str, key: str) -> None:
    flip(journal / name, middle_of(journal / name, f"value of {key}"))


def test_there_is_nothing_to_do_for_a_sound_journal(journal: Path, run: Run) -> None:
    before = tree(journal)
    said = run("repair", journal, "--yes")
    assert (said.status, said.out) == (0, "there is nothing to repair\n")
    assert tree(journal) == before


def test_without_yes_it_only_says_what_it_would_do(journal: Path, run: Run) -> None:
    damage(journal, "increment-000002.jsonl", "e")
    before = tree(journal)
    said = run("repair", journal)
    assert said.status == 1
    assert "increment-000002.jsonl: cut out 70 bytes at offset" in said.out
    assert "nothing was changed; add --yes to do it" in said.err
    assert tree(journal) == before


@pytest.mark.parametrize(
    ("name", "key"), [("base-000002.jsonl", "b"), ("increment-000002.jsonl", "e"), ("increment-000003.jsonl", "i")]
)
def test_all_records_before_and_behind_the_damaged_one_are_kept(journal: Path, run: Run, name: str, key: str) -> None:
    damage(journal, name, key)
    damaged = (journal / name).read_bytes()
    with pytest.raises(JournalError, match="journal repair"):
        opened(journal)
    said = run("repair", journal, "--yes")
    assert said.status == 0
    assert run("verify", journal).status == 0
    assert keys(journal) == without(key)
    [cut] = journal.glob("*.cut-*")
    assert cut.name.startswith(f"{name}.cut-")
    assert cut.read_bytes() in damaged
    assert str(cut) in said.out
    [originals] = journal.glob("before-repair-*")
    assert (originals / name).read_bytes() == damaged


def test_the_originals_are_a_journal_that_can_be_repaired_again(journal: Path, run: Run) -> None:
    before = {name: data for name, data in tree(journal).items() if name != "lock"}
    damage(journal, "increment-000002.jsonl", "e")
    assert run("repair", journal, "--yes").status == 0
    [originals] = journal.glob("before-repair-*")
    flip(originals / "increment-000002.jsonl", middle_of(originals / "increment-000002.jsonl", "value of d") + 70)
    assert {name: data for name, data in tree(originals).items() if name != "lock"} == before
    assert keys(originals) == ALL


def test_several_damages_in_several_files_are_mended_at_once(journal: Path, run: Run) -> None:
    damage(journal, "base-000002.jsonl", "a")
    damage(journal, "increment-000002.jsonl", "d")
    damage(journal, "increment-000002.jsonl", "f")
    damage(journal, "increment-000003.jsonl", "h")
    assert run("repair", journal, "--yes").status == 0
    assert keys(journal) == without("a", "d", "f", "h")
    assert len(list(journal.glob("*.cut-*"))) == 4


def test_what_was_put_into_the_middle_costs_nothing_behind_it(journal: Path, run: Run) -> None:
    for name in ("base-000002.jsonl", "increment-000002.jsonl"):
        lines = (journal / name).read_bytes().splitlines(keepends=True)
        (journal / name).write_bytes(b"".join([*lines[:2], b"something else\n" * 20, *lines[2:]]))
    assert run("repair", journal, "--yes").status == 0
    assert run("verify", journal).status == 0
    assert keys(journal) == ALL


def test_a_line_too_many_in_a_closed_file_is_found_and_costs_nothing(journal: Path, run: Run) -> None:
    lines = (journal / "increment-000002.jsonl").read_bytes().splitlines(keepends=True)
    (journal / "increment-000002.jsonl").write_bytes(b"".join([*lines[:2], lines[0], *lines[2:]]))
    assert run("verify", journal).status == 1
    with pytest.raises(JournalError, match="journal repair"):
        opened(journal)
    assert run("repair", journal, "--yes").status == 0
    assert run("verify", journal).status == 0
    assert keys(journal) == ALL


def test_one_flipped_bit_anywhere_costs_one_record_at_most(tmp_path: Path, run: Run) -> None:
    random_ = random.Random(3)
    for number in range(25):
        journal = several_files(tmp_path / f"journal-{number}")
        name = random_.choice(["base-000002.jsonl", "increment-000002.jsonl", "increment-000003.jsonl"])
        offset = random_.randrange((journal / name).stat().st_size)
        flip(journal / name, offset, random_.randrange(8))
        assert run("repair", journal, "--yes").status == 0, (name, offset)
        assert verify(journal).is_sound, (name, offset)
        kept = contents(journal)
        assert len(kept) >= 8, (name, offset)
        assert all(value == (0, b"value of " + key) for key, value in kept.items())


def test_a_base_whose_end_is_gone_gets_a_new_one(journal: Path, run: Run) -> None:
    file = journal / "base-000002.jsonl"
    flip(file, file.stat().st_size - 10)
    assert run("repair", journal, "--yes").status == 0
    assert keys(journal) == ALL
    assert b'"op":"end"' in file.read_bytes().splitlines()[-1]


def test_a_file_whose_start_is_gone_gets_a_new_one(journal: Path, run: Run) -> None:
    for name in ("base-000002.jsonl", "increment-000002.jsonl"):
        flip(journal / name, 30)
    assert run("repair", journal, "--yes").status == 0
    assert keys(journal) == ALL


@pytest.mark.parametrize("is_missing", [True, False])
def test_a_manifest_is_made_anew_from_the_files_names(journal: Path, run: Run, is_missing: bool) -> None:
    if is_missing:
        (journal / "manifest.json").unlink()
    else:
        flip(journal / "manifest.json", 40)
    with pytest.raises(JournalError, match="journal repair"):
        opened(journal)
    said = run("repair", journal, "--yes")
    assert said.status == 0
    assert "manifest.json: create a new one that names" in said.out
    assert keys(journal) == ALL


def test_without_a_manifest_what_an_older_base_left_is_not_taken(journal: Path, run: Run) -> None:
    write_journal(journal.parent / "old", sets("old"))
    (journal.parent / "old" / "increment-000001.jsonl").rename(journal / "increment-000001.jsonl")
    (journal / "base-000003.jsonl").write_bytes((journal / "base-000002.jsonl").read_bytes()[:-20])
    (journal / "manifest.json").unlink()
    assert run("repair", journal, "--yes").status == 0
    assert keys(journal) == ALL


def test_a_missing_file_is_gone_on_without_only_where_the_loss_is_allowed(journal: Path, run: Run) -> None:
    size = (journal / "increment-000002.jsonl").stat().st_size
    (journal / "increment-000002.jsonl").unlink()
    said = run("repair", journal, "--yes", "--max-loss", 100)
    assert said.status == 1
    assert f"increment-000002.jsonl: continue without it; its {size} bytes are missing" in said.out
    assert f"--max-loss {size}" in said.err
    assert run("repair", journal, "--yes", "--max-loss", size).status == 0
    assert keys(journal) == without("d", "e", "f")


def test_a_base_and_a_manifest_that_are_gone_are_a_loss_of_unknown_size(journal: Path, run: Run) -> None:
    (journal / "base-000002.jsonl").unlink()
    (journal / "manifest.json").unlink()
    before = tree(journal)
    said = run("verify", journal)
    assert (said.status, "the file is missing; its length is unknown" in said.out) == (1, True)
    said = run("repair", journal, "--yes", "--max-loss", 1 << 60)
    assert said.status == 1
    assert "base-000002.jsonl: continue without it; it is missing, and its length is unknown" in said.out
    assert "0 bytes and the missing files, whose length is unknown, are lost" in said.out
    assert "allow the loss with --max-loss any" in said.err
    assert tree(journal) == before
    assert run("repair", journal, "--yes", "--max-loss", "any").status == 0
    assert run("verify", journal).status == 0
    assert keys(journal) == "d e f g h i"


@pytest.mark.parametrize("has_manifest", [True, False])
def test_all_that_is_left_of_a_journal_is_served_once_its_loss_was_allowed(
    journal: Path, run: Run, has_manifest: bool
) -> None:
    for name in ("base-000002", "increment-000002"):
        (journal / f"{name}.jsonl").unlink()
    if not has_manifest:
        (journal / "manifest.json").unlink()
    assert run("repair", journal, "--yes", "--max-loss", "any").status == 0
    assert run("verify", journal).status == 0
    assert keys(journal) == "g h i"
    assert run("repair", journal).out == "there is nothing to repair\n"


@pytest.mark.parametrize("name", ["increment-000001.jsonl", "increment-000002.jsonl"])
def test_a_gap_in_the_numbers_of_files_without_a_manifest_is_a_loss(tmp_path: Path, run: Run, name: str) -> None:
    if name == "increment-000001.jsonl":
        journal = write_journal(tmp_path / "increments", sets("a"))
        (journal / name).rename(journal / "increment-000003.jsonl")
    else:
        journal = several_files(tmp_path / "journal")
        (journal / name).unlink()
    (journal / "manifest.json").unlink()
    said = run("repair", journal, "--yes")
    assert (said.status, "is missing, and its length is unknown" in said.out) == (1, True)


def test_a_newer_journal_that_a_backup_was_copied_over_can_be_had_back(tmp_path: Path, run: Run) -> None:
    journal = write_journal(tmp_path / "journal", sets("old"))
    backup = tmp_path / "backup"
    shutil.copytree(journal, backup)
    write_journal(journal, sets("new"))
    assert run("compact", journal).status == 0
    shutil.copytree(backup, journal, dirs_exist_ok=True)
    said = run("verify", journal)
    names = ("base-000002.jsonl", "increment-000002.jsonl")
    assert (said.status, f"manifest.json is older than {', '.join(names)}" in said.out) == (1, True)
    again = shutil.copytree(journal, tmp_path / "again")
    newer = tmp_path / "newer"
    newer.mkdir()
    for name in names:
        (journal / name).rename(newer / name)
    assert keys(journal) == "old"
    for path in (newer, again):
        assert run("repair", path, "--yes").status == 0
        assert run("verify", path).status == 0
        assert keys(path) == "new old"


def test_a_base_alone_has_lost_its_increments(journal: Path, run: Run) -> None:
    for name in ("increment-000002.jsonl", "increment-000003.jsonl", "manifest.json"):
        (journal / name).unlink()
    assert run("repair", journal, "--yes").status == 1
    assert run("repair", journal, "--yes", "--max-loss", "any").status == 0
    assert keys(journal) == "a b c"


@pytest.mark.parametrize("loss", ["-1", "much", ""])
def test_a_loss_is_a_number_of_bytes_or_any(journal: Path, run: Run, loss: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run("repair", journal, f"--max-loss={loss}")
    assert ended.value.code == 2


def test_a_repair_that_only_says_what_it_would_do_leaves_no_lock_file(journal: Path, run: Run) -> None:
    (journal / "lock").unlink(missing_ok=True)
    damage(journal, "increment-000002.jsonl", "e")
    before = tree(journal)
    assert run("repair", journal).status == 1
    assert tree(journal) == before


def test_more_than_may_be_lost_is_not_cut_out(journal: Path, run: Run) -> None:
    damage(journal, "increment-000002.jsonl", "e")
    before = tree(journal)
    said = run("repair", journal, "--yes", "--max-loss", 69)
    assert said.status == 1
    assert "more than --max-loss 69 allows" in said.err
    assert tree(journal) == before


def test_a_repaired_journal_gives_no_cas_id_twice(tmp_path: Path, run: Run) -> None:
    def ids(journal: Journal) -> None:
        journal.stored(b"a", 0, 0, journal.last_cas + 5, b"x")

    journal = write_journal(tmp_path / "journal", sets("z"), ids, ids)
    file = journal / "increment-000001.jsonl"
    starts = [line for line in file.read_bytes().splitlines(keepends=True) if b'"op":"start"' in line]
    for line in starts[1:]:
        flip(file, file.read_bytes().index(line) + 30)
    assert run("repair", journal, "--yes").status == 0
    with closing(JournalDirectory(journal)) as directory:
        manifest = directory.open()
        assert manifest is not None
        assert recover(journal, directory.disk, manifest, new_store()).next_run() > (3 << 32) + 5


def test_originals_are_copied_where_the_file_system_has_no_links(
    journal: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    damage(journal, "increment-000002.jsonl", "e")
    damaged = (journal / "increment-000002.jsonl").read_bytes()
    monkeypatch.setattr(os, "link", refuse)
    assert run("repair", journal, "--yes").status == 0
    [originals] = journal.glob("before-repair-*")
    assert (originals / "increment-000002.jsonl").read_bytes() == damaged
    assert keys(journal) == without("e")


def test_a_journal_of_a_newer_format_is_left_alone(tmp_path: Path, run: Run) -> None:
    directory = tmp_path / "journal"
    directory.mkdir()
    (directory / "increment-000001.jsonl").write_bytes(line_of(Record("start", at=1, version=99)))
    said = run("repair", directory, "--yes")
    assert (said.status, "use a newer memcache_kv" in said.err) == (1, True)


def test_a_journal_in_use_is_left_alone(journal: Path, run: Run) -> None:
    with closing(JournalDirectory(journal)):
        said = run("repair", journal, "--yes")
    assert said.status == 3
    assert "stop it first" in said.err


def test_an_interrupted_repair_leaves_the_journal_as_it_was(
    journal: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(journal, "increment-000002.jsonl", "e")
    before = tree(journal)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("memcache_kv.journal.tools.repair.with_base", interrupt)
    said = run("repair", journal, "--yes")
    assert said.status == 130
    assert tree(journal) == before


# What the chain adds


def test_the_first_record_behind_a_hole_can_not_be_checked_and_is_left_out(journal: Path, run: Run) -> None:
    file = journal / "increment-000003.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    at = len(b"".join(lines[:1]))
    file.write_bytes(lines[0] + bytes(len(lines[1]) - 1) + b"\n" + b"".join(lines[2:]))
    said = run("repair", journal, "--yes")
    assert said.status == 0
    assert f"cut out {len(lines[1] + lines[2]):,} bytes at offset {at}" in said.out
    assert keys(journal) == "a b c d e f i"
    assert run("verify", journal).status == 0


@pytest.mark.parametrize("name", ["base-000002.jsonl", "increment-000002.jsonl", "increment-000003.jsonl"])
def test_everything_before_the_first_damage_is_kept_and_nothing_behind_it(journal: Path, run: Run, name: str) -> None:
    damaged, left = {
        "base-000002.jsonl": ("b", " ".join(sorted(keys_before(journal / "base-000002.jsonl", "b")))),
        "increment-000002.jsonl": ("e", "a b c d"),
        "increment-000003.jsonl": ("h", "a b c d e f g"),
    }[name]
    flip(journal / name, middle_of(journal / name, f"value of {damaged}"))
    before = (journal / name).read_bytes()
    said = run("repair", journal, "--cut-at-first-damage", "--yes", "--max-loss", "any")
    assert said.status == 0
    assert f"{name}: cut off everything from offset" in said.out
    assert keys(journal) == left
    assert run("verify", journal).status == 0
    [kept] = journal.glob("before-repair-*")
    assert (kept / name).read_bytes() == before


def keys_before(path: Path, key: str) -> list[str]:
    """Return the keys of a file's records before that of a key."""
    before = path.read_text().partition(f'"key":"{key}"')[0]
    return re.findall('"key":"(.)"', before)


def test_a_cut_at_the_first_damage_says_how_much_it_costs(journal: Path, run: Run) -> None:
    name = "increment-000002.jsonl"
    flip(journal / name, middle_of(journal / name, "value of e"))
    content = (journal / name).read_bytes()
    at = content.index(b"\n", content.index(b"value of d")) + 1
    lost = len(content) - at + (journal / "increment-000003.jsonl").stat().st_size
    said = run("repair", journal, "--cut-at-first-damage", "--yes", "--max-loss", lost - 1)
    assert said.status == 1
    assert verify(journal).damages == 1
    assert run("repair", journal, "--cut-at-first-damage", "--yes", "--max-loss", lost).status == 0
    assert run("repair", journal, "--cut-at-first-damage").out.startswith("there is nothing to repair")


def test_a_file_of_another_journal_is_left_out(journal: Path, run: Run) -> None:
    other = several_files(journal.parent / "other")
    (journal / "increment-000003.jsonl").write_bytes((other / "increment-000003.jsonl").read_bytes())
    said = run("repair", journal, "--yes", "--max-loss", "any")
    assert said.status == 0
    assert "increment-000003.jsonl: continue without it; it belongs to another journal" in said.out
    assert keys(journal) == "a b c d e f"
    assert run("verify", journal).status == 0
