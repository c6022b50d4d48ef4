"""`journal snapshot`: a copy as of one moment, made of hard links."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from memcache_kv.journal.manifest import increment_name
from memcache_kv.journal.tools.export import export_lines
from tests.journal.journals import manifest_in, write_manifest
from tests.journal.tools.journals import Run, keys, opened, sets, several_files, tree, write_journal
from tests.journal.tools.live_journal import busy_rounds, check_pairs, server
from tests.journal.tools.test_ownership import as_root, give, modes, owners
from tests.program import Program

__all__ = ["server"]
LAST = increment_name(3)
ROUNDS = 6


def test_a_snapshot_is_a_journal_of_links_and_a_copy_of_the_last_file(tmp_path: Path, run: Run) -> None:
    journal, copy = several_files(tmp_path / "journal"), tmp_path / "copy"
    before = tree(journal)
    said = run("snapshot", journal, copy)
    assert (said.status, said.err) == (0, "")
    assert "2 files linked" in said.out
    assert tree(journal) == before
    assert {name: (journal / name).samefile(copy / name) for name in before if name != "manifest.json"} == {
        "base-000002.jsonl": True, increment_name(2): True, LAST: False,
    }  # fmt: skip
    assert run("verify", copy).status == 0
    assert keys(copy) == "a b c d e f g h i"


def test_writes_to_either_of_the_two_leave_the_other_alone(tmp_path: Path, run: Run) -> None:
    journal, copy = several_files(tmp_path / "journal"), tmp_path / "copy"
    assert run("snapshot", journal, copy).status == 0
    write_journal(journal, sets("one"))
    write_journal(copy, sets("other"))
    assert run("compact", journal).status == 0
    assert (keys(journal), keys(copy)) == ("a b c d e f g h i one", "a b c d e f g h i other")
    assert run("verify", copy).status == run("verify", journal).status == 0


def test_an_unfinished_record_is_left_out_and_the_manifest_has_the_exact_length(tmp_path: Path, run: Run) -> None:
    journal, copy = several_files(tmp_path / "journal"), tmp_path / "copy"
    whole = (journal / LAST).read_bytes()
    (journal / LAST).write_bytes(whole + whole[:-1].rpartition(b"\n")[2][:20])
    assert run("snapshot", journal, copy).status == 0
    assert (copy / LAST).read_bytes() == whole
    manifest = manifest_in(copy)
    assert (manifest.increments[-1].bytes, manifest.id) == (len(whole), manifest_in(journal).id)
    assert manifest.unnamed == 0


def test_a_rotation_that_no_manifest_names_yet_is_part_of_the_snapshot(tmp_path: Path, run: Run) -> None:
    journal, copy = several_files(tmp_path / "journal"), tmp_path / "copy"
    old = manifest_in(journal)
    write_manifest(journal, replace(old, increments=old.increments[:1]))
    assert manifest_in(journal).unnamed == 1
    assert run("snapshot", journal, copy).status == 0
    assert [part.name for part in manifest_in(copy).parts] == [part.name for part in old.parts]
    assert (manifest_in(copy).unnamed, keys(copy)) == (0, "a b c d e f g h i")
    unnamed = increment_name(2)  # a start may cut off its end
    assert not (journal / unnamed).samefile(copy / unnamed)


def test_files_are_copied_where_they_can_not_be_linked(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    journal, copy = several_files(tmp_path / "journal"), tmp_path / "copy"
    said = run("snapshot", journal, copy)
    assert said.status == 0
    assert "2 closed files had to be copied" in said.err
    assert keys(copy) == "a b c d e f g h i"
    assert not (journal / "base-000002.jsonl").samefile(copy / "base-000002.jsonl")


def test_a_target_that_is_in_use_is_refused(tmp_path: Path, run: Run) -> None:
    journal = several_files(tmp_path / "journal")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    said = run("snapshot", journal, tmp_path / "full")
    assert (said.status, "not an empty directory" in said.err) == (1, True)
    assert tree(tmp_path / "full") == {"file": b"mine"}
    assert run("snapshot", journal, tmp_path / "empty").status == 0
    assert run("snapshot", tmp_path / "none", tmp_path / "new").status == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_snapshot_that_fails_leaves_nothing(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    journal = several_files(tmp_path / "journal")
    monkeypatch.setattr("memcache_kv.journal.tools.hard_links.replace_manifest", fail)
    assert run("snapshot", journal, tmp_path / "copy").status == (1 if isinstance(error, OSError) else 130)
    assert not (tmp_path / "copy").exists()
    assert keys(journal) == "a b c d e f g h i"


def test_files_that_a_server_swaps_meanwhile_are_linked_anew(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, copy = several_files(tmp_path / "journal"), tmp_path / "copy"
    link = os.link
    swapped: list[int] = []

    def swap_first(old: Path, new: Path) -> None:
        if not swapped:
            swapped.append(run("compact", journal, "--keep", "0").status)
        link(old, new)

    monkeypatch.setattr(os, "link", swap_first)
    assert run("snapshot", journal, copy).status == 0
    assert swapped == [0]
    assert sorted(path.name for path in copy.iterdir()) == [
        "base-000004.jsonl", "increment-000004.jsonl", "manifest.json",
    ]  # fmt: skip
    assert keys(copy) == "a b c d e f g h i"


@as_root
def test_what_root_copies_belongs_to_the_journals_owner(tmp_path: Path, run: Run) -> None:
    journal, copy = give(several_files(tmp_path / "journal")), tmp_path / "copy"
    assert run("snapshot", journal, copy).status == 0
    assert (owners(copy), modes(copy)) == (owners(journal), {0o600})


def test_snapshots_beside_a_server_that_is_busy_and_compacts_are_each_one_moment(
    server: Program, tmp_path: Path, run: Run
) -> None:
    for number in busy_rounds(server):
        copy = tmp_path / f"copy-{number}"
        said = run("snapshot", tmp_path / "journal", copy)
        assert said.status == 0, said.err
        assert run("verify", copy).status == 0
        check_pairs([line.decode() for line in export_lines(opened(copy).items())])
