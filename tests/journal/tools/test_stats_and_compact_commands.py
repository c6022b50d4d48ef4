"""`journal stats` and `journal compact`."""

from contextlib import closing
from pathlib import Path

import pytest

from memcache_kv.journal import Journal, JournalDirectory
from tests.journal.tools.journals import STARTED, Run, contents, keys, opened, sets, several_files, tree, write_journal


def overwriting(journal: Journal) -> None:
    """Much that no longer lives, and some that does."""
    for number in range(100):
        journal.new_second(STARTED + number)
        journal.stored(b"counter", 0, 0, 0, b"%d" % number)
    for number in range(5):
        journal.stored(b"user:%d" % number, 0, 0, 0, b"x" * 100)
        journal.stored(b"page/%d" % number, 0, 0, 0, b"y" * 1000)
    journal.deleted(b"user:0")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal of two runs."""
    return write_journal(tmp_path / "journal", overwriting, sets("last"))


def test_stats_counts_records_files_runs_and_what_lives(journal: Path, run: Run) -> None:
    before = tree(journal)
    found = run("stats", journal, "--json").json
    size = (journal / "increment-000001.jsonl").stat().st_size
    assert found["files"] == [{"name": "increment-000001.jsonl", "bytes": size}]
    assert found["records"] == {"start": 2, "time": 100, "set": 111, "delete": 1}
    assert (found["runs"], found["live_items"], found["total_bytes"]) == (2, 11, size)
    assert (found["first_at"], found["last_at"], found["rewind_at"]) == (STARTED, STARTED + 1, STARTED)
    assert [(row["prefix"], row["items"]) for row in found["prefixes"]] == [("user", 4)]
    assert found["live_ratio"] == pytest.approx(found["live_bytes"] / size, abs=0.0001)
    assert tree(journal) == before


def test_stats_takes_another_delimiter_and_shows_the_largest_first(journal: Path, run: Run) -> None:
    found = run("stats", journal, "--json", "--delimiter", "e").json
    assert [row["prefix"] for row in found["prefixes"]] == ["pag", "us", "count"]
    found = run("stats", journal, "--json", "--delimiter", "e", "--top", 1).json
    assert [row["prefix"] for row in found["prefixes"]] == ["pag"]


def test_stats_says_all_of_it_in_words_too(journal: Path, run: Run) -> None:
    said = run("stats", journal)
    assert said.status == 0
    for text in ("111 set", "of 2 runs", "live: 11 items", "user: 4 items", f"({STARTED})"):
        assert text in said.out


def test_stats_of_a_journal_with_a_base_says_how_far_it_can_be_rewound(tmp_path: Path, run: Run) -> None:
    found = run("stats", several_files(tmp_path / "journal"), "--json").json
    assert found["rewind_at"] > STARTED
    assert found["records"] == {"start": 3, "set": 9, "end": 1, "time": 1}
    assert found["runs"] == 1


def test_compact_keeps_what_lives_and_nothing_else(journal: Path, run: Run) -> None:
    before = set(opened(journal).items())
    said = run("compact", journal)
    assert said.status == 0
    assert said.out.startswith("11 items: ")
    assert set(opened(journal).items()) == before
    assert run("verify", journal).status == 0
    assert run("stats", journal, "--json").json["live_ratio"] > 0.93
    assert sorted(path.name for path in journal.iterdir()) == [
        "base-000002.jsonl", "increment-000001.jsonl", "increment-000002.jsonl", "manifest.json",
    ]  # fmt: skip


def test_compact_keeps_as_many_generations_as_it_is_told_to(journal: Path, run: Run) -> None:
    for keep, number, kept in ((2, 2, {1}), (2, 3, {1, 2}), (1, 4, {3}), (0, 5, set())):
        said = run("compact", journal, "--keep", keep)
        assert (said.status, "of what was before are kept" in said.out) == (0, keep > 0)
        bases = {f"base-{number:06}.jsonl" for number in kept | {number} if number > 1}
        increments = {f"increment-{number:06}.jsonl" for number in kept | {number}}
        assert {path.name for path in journal.iterdir()} == {"manifest.json", *bases, *increments}
    assert len(contents(journal)) == 11


def test_compact_can_be_done_again_and_the_journal_gone_on_with(journal: Path, run: Run) -> None:
    assert run("compact", journal).status == 0
    write_journal(journal, sets("more"))
    assert run("compact", journal).status == 0
    assert "more" in keys(journal)
    assert run("verify", journal).status == 0


def test_compact_leaves_a_journal_in_use_alone(journal: Path, run: Run) -> None:
    with closing(JournalDirectory(journal)):
        assert run("compact", journal).status == 3


def test_an_interrupted_compaction_loses_nothing(journal: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(opened(journal).items())

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("memcache_kv.journal.compaction.encode_queue", interrupt)
    assert run("compact", journal).status == 130
    assert set(opened(journal).items()) == before
    assert run("verify", journal).status == 0
    assert not list(journal.glob("*.tmp"))
