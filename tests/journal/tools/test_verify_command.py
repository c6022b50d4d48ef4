"""`journal verify`: every damage is found and named."""

import random
from pathlib import Path

import pytest

from memcache_kv.journal.tools.verify import verify
from tests.journal.tools.journals import Run, flip, middle_of, sets, several_files, tree, write_journal


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal of three files."""
    return several_files(tmp_path / "journal")


def test_a_sound_journal_is_said_to_be_sound_and_not_changed(journal: Path, run: Run) -> None:
    before = tree(journal)
    said = run("verify", journal)
    assert (said.status, said.err) == (0, "")
    assert "no damage in 14 records" in said.out
    assert tree(journal) == before


def test_a_program_can_read_it(journal: Path, run: Run) -> None:
    flip(journal / "increment-000002.jsonl", at := middle_of(journal / "increment-000002.jsonl", "value of e"))
    said = run("verify", journal, "--json")
    found = said.json
    assert (said.status, found["ok"], found["damages"], found["records"]) == (1, False, 1, 13)
    assert [file["name"] for file in found["files"]] == [
        "base-000002.jsonl", "increment-000002.jsonl", "increment-000003.jsonl",
    ]  # fmt: skip
    [damage] = found["files"][1]["damages"]
    assert damage["offset"] <= at < damage["offset"] + damage["bytes"]
    assert "checksum" in damage["reason"]


@pytest.mark.parametrize(
    "name", ["base-000002.jsonl", "increment-000002.jsonl", "increment-000003.jsonl", "manifest.json"]
)
def test_a_flipped_bit_is_found_wherever_it_is(journal: Path, name: str) -> None:
    file = journal / name
    whole = file.read_bytes()
    random_ = random.Random(name)
    for offset in random_.sample(range(len(whole)), 80):
        flip(file, offset, random_.randrange(8))
        assert not verify(journal).is_sound, offset
        file.write_bytes(whole)
    assert verify(journal).is_sound


def test_all_damages_are_named_not_only_the_first(journal: Path, run: Run) -> None:
    for name, text in (
        ("base-000002", "value of a"),
        ("increment-000002", "value of e"),
        ("increment-000003", "value of h"),
    ):
        flip(journal / f"{name}.jsonl", middle_of(journal / f"{name}.jsonl", text))
    said = run("verify", journal)
    assert said.status == 1
    assert said.out.count("checksum does not fit") == 3
    assert f"memcache-kv journal repair {journal}" in said.out


def test_a_missing_file_a_missing_manifest_and_a_file_cut_off_are_named(journal: Path, run: Run) -> None:
    (journal / "increment-000002.jsonl").unlink()
    assert "the file is missing" in run("verify", journal).out
    (journal / "manifest.json").unlink()
    said = run("verify", journal)
    assert said.status == 1
    assert "manifest.json is missing" in said.out
    assert "base-000002.jsonl: 5 records" in said.out


def test_a_closed_file_that_was_cut_off_is_named_even_between_two_records(journal: Path, run: Run) -> None:
    file = journal / "increment-000002.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    said = run("verify", journal)
    assert said.status == 1
    assert "it was cut off" in said.out


def test_a_base_without_its_end_is_named(journal: Path, run: Run) -> None:
    file = journal / "base-000002.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-1]) + lines[-1].replace(b"end", b"eND"))
    assert "its end record is missing" in run("verify", journal).out


def test_an_unfinished_last_record_is_told_of_and_no_damage(journal: Path, run: Run) -> None:
    with (journal / "increment-000003.jsonl").open("ab") as file:
        file.write(b'{"crc":"00000000","len":4')
    said = run("verify", journal)
    assert said.status == 0
    assert "25 bytes of an unfinished record" in said.out


def test_what_is_no_part_of_the_journal_is_told_of(journal: Path, run: Run) -> None:
    for name in ("base-000009.jsonl.tmp", "increment-000009.jsonl", "increment-000001.jsonl.torn-1", "notes"):
        (journal / name).write_bytes(b"x")
    said = run("verify", journal, "--json")
    kinds = {other["name"]: other["kind"] for other in said.json["others"]}
    assert said.status == 0
    assert kinds == {
        "base-000009.jsonl.tmp": "temporary",
        "increment-000009.jsonl": "unlisted",
        "increment-000001.jsonl.torn-1": "cut off",
        "notes": "unknown",
    }


def test_a_journal_in_format_1_is_read_too(tmp_path: Path, run: Run) -> None:
    journal = write_journal(tmp_path / "journal", sets("a", "b"))
    (journal / "increment-000001.jsonl").rename(journal / "journal-000001.jsonl")
    (journal / "manifest.json").unlink()
    assert run("verify", journal).status == 0


@pytest.mark.parametrize("command", ["verify", "stats", "export", "repair", "compact"])
def test_a_directory_without_a_journal_is_refused_and_left_alone(tmp_path: Path, run: Run, command: str) -> None:
    said = run(command, tmp_path / "none")
    assert said.status == 1
    assert "memcache-kv journal: " in said.err
    assert not (tmp_path / "none").exists()
    (tmp_path / "empty").mkdir()
    assert run(command, tmp_path / "empty").status == 1
