"""Kept generations: `restore` reaches into them, `stats` lists them, `verify` and `repair` know them."""

import os
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from memcache_kv.journal.disk import SystemDisk
from memcache_kv.journal.manifest import Manifest, Part, read_manifest, replace_manifest
from tests.journal.tools.generations import three_generations
from tests.journal.tools.journals import STARTED, Run, flip, keys, middle_of, tree

STATES = [
    (0, "a"), (9, "a"), (10, "a b"), (15, "a b"), (19, "a b"), (20, "a b c"), (24, "a b c"), (25, ""),
    (26, "f"), (30, "f"), (31, "d f"), (32, "d f"), (39, "d f"), (40, "d e f"),
]  # fmt: skip
OLDEST, MIDDLE = ["increment-000001.jsonl"], ["base-000002.jsonl", "increment-000002.jsonl"]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal that keeps two generations."""
    return three_generations(tmp_path / "journal")


def manifest_of(path: Path) -> Manifest:
    found = read_manifest(path, SystemDisk())
    assert found is not None
    return found


def kept_in(path: Path) -> list[list[str]]:
    """The names of the files of each kept generation."""
    return [[part.name for part in kept.parts] for kept in manifest_of(path).kept]


def test_the_files_of_as_many_generations_are_kept_as_are_asked_for(tmp_path: Path) -> None:
    for keep, kept in ((0, []), (1, [MIDDLE]), (2, [OLDEST, MIDDLE]), (9, [OLDEST, MIDDLE])):
        path = three_generations(tmp_path / str(keep), keep)
        assert kept_in(path) == kept
        names = {name for names in kept for name in names}
        assert set(tree(path)) == names | {"base-000003.jsonl", "increment-000003.jsonl", "manifest.json"}
        assert keys(path) == "d e f"


@pytest.mark.parametrize(("seconds", "left"), STATES)
def test_restore_reaches_behind_rewrites(journal: Path, run: Run, seconds: int, left: str) -> None:
    until = STARTED + seconds
    before = {name: data for name, data in tree(journal).items() if name != "lock"}
    said = run("restore", journal, "--until", until)
    if seconds < 40:
        assert f": {len(left.split())} items; now 3" in said.out
        assert run("restore", journal, "--until", until, "--yes").status == 0
        [originals] = journal.glob("before-restore-*")
        assert tree(originals) == before
        assert kept_in(journal) == []
        assert keys(originals) == "d e f"
    assert keys(journal) == left
    assert run("verify", journal).status == 0


@pytest.mark.parametrize(("keep", "earliest"), [(0, 32), (1, 15), (2, 0)])
def test_restore_refuses_a_time_before_the_oldest_generation_and_says_which_is(
    tmp_path: Path, run: Run, keep: int, earliest: int
) -> None:
    path = three_generations(tmp_path / "journal", keep)
    said = run("restore", path, "--until", STARTED + earliest - 1)
    assert (said.status, f"({STARTED + earliest}) at the earliest" in said.err) == (1, True)
    assert run("stats", path, "--json").json["rewind_at"] == STARTED + earliest
    assert "at the earliest" not in run("restore", path, "--until", STARTED + earliest).err


def test_a_flush_before_the_last_rewrite_is_shown_and_undone(journal: Path, run: Run) -> None:
    assert run("stats", journal, "--json").json["last_flushes"] == [STARTED + 25]
    assert run("restore", journal, "--until", STARTED + 24, "--yes").status == 0
    assert keys(journal) == "a b c"


def test_stats_lists_the_generations(journal: Path, run: Run) -> None:
    kept = run("stats", journal, "--json").json["kept"]
    assert [generation["made_at"] - STARTED for generation in kept] == [0, 15]
    assert [[file["name"] for file in generation["files"]] for generation in kept] == [OLDEST, MIDDLE]
    sizes = [sum((journal / name).stat().st_size for name in names) for names in (OLDEST, MIDDLE)]
    assert [generation["bytes"] for generation in kept] == sizes
    said = run("stats", journal).out
    assert f"kept: the generation {MIDDLE[0]} to {MIDDLE[1]}, {sizes[1]:,} bytes, from " in said
    assert f"kept: the generation {OLDEST[0]}, {sizes[0]:,} bytes, from " in said


def test_restore_reaches_behind_a_load_into_a_journal_of_whose_increment_a_crash_left_nothing(
    tmp_path: Path, run: Run
) -> None:
    path = three_generations(tmp_path / "journal", keep=1)
    os.truncate(path / "increment-000003.jsonl", 0)
    manifest = manifest_of(path)
    replace_manifest(path, SystemDisk(), replace(manifest, increments=(Part("increment-000003.jsonl", 0),)))
    (tmp_path / "items").write_text("g value\n")
    assert run("load", path, "--text", tmp_path / "items").status == 0
    assert run("verify", path).status == 0
    assert kept_in(path) == [MIDDLE]
    assert run("restore", path, "--until", STARTED + 31, "--yes").status == 0
    assert keys(path) == "f"


# Damage


def test_damage_in_a_kept_generation_is_reported_and_costs_the_server_nothing(journal: Path, run: Run) -> None:
    flip(journal / MIDDLE[1], middle_of(journal / MIDDLE[1], "value of c"))
    said = run("verify", journal)
    assert (said.status, f"{MIDDLE[1]}: " in said.out) == (1, True)
    assert "1 damaged places in kept generations, which a server does without" in said.out
    found = run("verify", journal, "--json").json
    assert (found["ok"], found["starts"], found["damages"], found["kept_damages"]) == (False, True, 0, 1)
    assert keys(journal) == "d e f"
    said = run("restore", journal, "--until", STARTED + 24, "--yes")
    assert (said.status, "is damaged at offset" in said.err) == (1, True)
    assert keys(journal) == "d e f"


def test_repair_keeps_the_generations_behind_a_damaged_one(journal: Path, run: Run) -> None:
    flip(journal / OLDEST[0], middle_of(journal / OLDEST[0], "value of b"))
    before = {name: data for name, data in tree(journal).items() if name != "lock"}
    assert f"the generation {OLDEST[0]}: no longer keep it" in run("repair", journal).out
    assert run("repair", journal, "--yes").status == 0
    [originals] = journal.glob("before-repair-*")
    assert tree(originals) == before
    assert kept_in(journal) == [MIDDLE]
    assert not (journal / OLDEST[0]).exists()
    assert run("verify", journal).status == 0
    assert run("restore", journal, "--until", STARTED + 20, "--yes").status == 0
    assert keys(journal) == "a b c"


def test_repair_drops_all_generations_that_a_mended_base_no_longer_continues(journal: Path, run: Run) -> None:
    flip(journal / "base-000003.jsonl", middle_of(journal / "base-000003.jsonl", '"end"'))
    assert run("repair", journal, "--yes").status == 0
    assert kept_in(journal) == []
    assert keys(journal) == "d e f"


def test_repair_keeps_the_generations_before_a_mended_increment(journal: Path, run: Run) -> None:
    flip(journal / "increment-000003.jsonl", middle_of(journal / "increment-000003.jsonl", "value of e"))
    assert run("repair", journal, "--yes").status == 0
    assert kept_in(journal) == [OLDEST, MIDDLE]
    assert keys(journal) == "d f"
    assert run("verify", journal).status == 0
    assert run("restore", journal, "--until", STARTED + 10, "--yes").status == 0
    assert keys(journal) == "a b"


def test_a_lost_manifest_is_made_anew_with_the_generations(journal: Path, run: Run) -> None:
    (journal / "manifest.json").unlink()
    assert run("repair", journal, "--yes").status == 0
    assert kept_in(journal) == [OLDEST, MIDDLE]
    assert keys(journal) == "d e f"
    assert run("restore", journal, "--until", STARTED + 9, "--yes").status == 0
    assert keys(journal) == "a"


def test_a_gap_ends_the_generations_of_a_manifest_that_is_made_anew(journal: Path, run: Run) -> None:
    (journal / "manifest.json").unlink()
    (journal / MIDDLE[1]).unlink()
    assert run("repair", journal, "--yes").status == 0
    assert kept_in(journal) == []
    assert keys(journal) == "d e f"


@pytest.mark.parametrize(
    ("name", "restorable"), [(OLDEST[0], {24: "a b c"}), (MIDDLE[0], {9: "a", 24: "a b c"}), (MIDDLE[1], {})]
)
def test_without_a_file_of_a_kept_generation_all_is_restorable_that_needs_it_not(
    journal: Path, run: Run, name: str, restorable: dict[int, str]
) -> None:
    (journal / name).unlink()
    assert run("stats", journal, "--json").json["live_items"] == 3
    assert run("verify", journal, "--json").json["kept_damages"] == 1
    assert keys(journal) == "d e f"
    for seconds in (9, 24):
        path = shutil.copytree(journal, journal.with_name(str(seconds)))
        said = run("restore", path, "--until", STARTED + seconds, "--yes")
        assert said.status == (seconds not in restorable)
        assert keys(path) == restorable.get(seconds, "d e f")


# Other commands


def test_load_goes_on_keeping_them(journal: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "items").write_text("new value\n")
    assert run("load", journal, "--text", tmp_path / "items").status == 0
    assert keys(journal) == "d e f new"
    assert kept_in(journal) == [OLDEST, MIDDLE]
    assert run("restore", journal, "--until", STARTED + 10, "--yes").status == 0
    assert keys(journal) == "a b"


def test_export_has_the_present_items_alone(journal: Path, run: Run) -> None:
    assert run("export", journal).out.count("\n") == 3
