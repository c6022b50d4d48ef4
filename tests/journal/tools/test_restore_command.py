"""`journal restore --until`: a bad flush_all is undone."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memcache_kv.journal import Journal
from memcache_kv.journal.record import Record, line_of
from memcache_kv.store.entry import cas_of, deadline_of, state_of, wire_bytes_of
from tests.journal.tools.journals import STARTED, Run, keys, opened, sets, several_files, tree, write_journal
from tests.program import Program, run_to_its_end


def eventful(journal: Journal) -> None:
    """Something in every second: a, b, delete of a, a flush, c."""
    journal.stored(b"a", 7, 0, 9, b"1")
    journal.new_second(STARTED + 10)
    journal.stored(b"b", 0, 0, 0, b"2")
    journal.new_second(STARTED + 20)
    journal.deleted(b"a")
    journal.new_second(STARTED + 30)
    journal.flushed(0)
    journal.new_second(STARTED + 40)
    journal.stored(b"c", 0, 0, 0, b"3")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal with a flush in it."""
    return write_journal(tmp_path / "journal", eventful)


@pytest.mark.parametrize(
    ("seconds", "left"),
    [(0, "a"), (9, "a"), (10, "a b"), (19, "a b"), (20, "b"), (29, "b"), (30, ""), (39, ""), (40, "c"), (99, "c")],
)
def test_all_is_as_it_was_at_the_end_of_that_second(journal: Path, run: Run, seconds: int, left: str) -> None:
    said = run("restore", journal, "--until", STARTED + seconds, "--yes")
    assert said.status == 0
    assert keys(journal) == left
    assert run("verify", journal).status == 0


def test_without_yes_it_only_says_what_would_change(journal: Path, run: Run) -> None:
    before = tree(journal)
    said = run("restore", journal, "--until", STARTED + 29)
    assert said.status == 1
    assert ": 1 items; now 1" in said.out
    assert "4 records are left out (2 time, 1 flush, 1 set)" in said.out
    assert f"the first flush_all among them was at {datetime.fromtimestamp(STARTED + 30).astimezone().isoformat()}" in (
        said.out
    )
    assert "nothing was changed; add --yes to do it" in said.err
    assert tree(journal) == before


def test_a_flush_that_stays_is_pointed_at(journal: Path, run: Run) -> None:
    said = run("restore", journal, "--until", STARTED + 30)
    assert f"to undo it, use --until {STARTED + 29}" in said.out


def test_the_files_as_they_were_are_kept_and_are_a_journal(journal: Path, run: Run) -> None:
    before = {name: data for name, data in tree(journal).items() if name != "lock"}
    assert run("restore", journal, "--until", STARTED + 10, "--yes").status == 0
    [kept] = journal.glob("before-restore-*")
    assert tree(kept) == before
    assert run("restore", kept, "--until", STARTED + 20, "--yes").status == 0
    assert keys(kept) == "b"
    assert keys(journal) == "a b"


def test_no_cas_id_is_given_twice_afterwards(tmp_path: Path, run: Run) -> None:
    def later(journal: Journal) -> None:
        journal.stored(b"z", 0, 0, journal.last_cas + 3, b"1")

    journal = write_journal(tmp_path / "journal", sets("a"), later, later)
    assert run("restore", journal, "--until", STARTED, "--yes").status == 0
    write_journal(journal, lambda journal: journal.stored(b"new", 0, 0, journal.last_cas + 1, b""))
    entry = opened(journal).peek(b"new")
    assert entry is not None
    assert cas_of(entry) > (2 << 32) + 3


def test_facts_of_items_survive(tmp_path: Path, run: Run) -> None:
    end = int(time.time()) + 1000

    def facts(journal: Journal) -> None:
        journal.stored(b"a", 7, end, 9, b"\xff", 2)
        journal.new_second(STARTED + 10)
        journal.flushed(0)

    journal = write_journal(tmp_path / "journal", facts)
    run("restore", journal, "--until", STARTED, "--yes")
    entry = opened(journal).peek(b"a")
    assert entry is not None
    assert (deadline_of(entry), cas_of(entry), state_of(entry), wire_bytes_of(entry)) == (
        end,
        9,
        2,
        b" 7 1\r\n\xff\r\n",
    )


def test_a_flush_that_waited_and_whose_time_has_passed_is_left_out(tmp_path: Path, run: Run) -> None:
    def delayed(journal: Journal) -> None:
        journal.stored(b"a", 0, 0, 0, b"1")
        journal.flushed(STARTED + 50)
        journal.new_second(STARTED + 50)
        journal.flushed(0)

    journal = write_journal(tmp_path / "journal", delayed)
    said = run("restore", journal, "--until", STARTED + 49, "--yes")
    assert "1 items; now 0" in said.out
    assert "is left out" in said.out
    store = opened(journal)
    store.new_second()
    assert [key for key, _ in store.items()] == [b"a"]


@pytest.mark.parametrize("until", ["9" * 20, "9" * 5000, "253402300800", "10000-01-01", "soon", "-5"])
def test_a_time_that_no_calendar_has_is_wrong_usage(
    journal: Path, run: Run, until: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run("restore", journal, f"--until={until}")
    assert ended.value.code == 2
    assert "is neither a unix time nor a time like" in capsys.readouterr().err


def test_a_restore_keeps_a_newer_journal_that_a_backup_was_copied_over(journal: Path, run: Run, tmp_path: Path) -> None:
    newer = several_files(tmp_path / "newer")
    for name in ("base-000002.jsonl", "increment-000003.jsonl"):
        (newer / name).rename(journal / name)
    content = tree(journal)
    said = run("restore", journal, "--until", STARTED + 10, "--yes")
    assert said.status == 0
    for name in ("base-000002.jsonl", "increment-000003.jsonl"):
        assert f"no manifest names the file that is now {name}.unlisted" in said.err
        assert (journal / f"{name}.unlisted").read_bytes() == content[name]
    assert keys(journal) == "a b"


def test_a_moment_before_the_journal_is_refused_with_the_earliest(journal: Path, run: Run) -> None:
    said = run("restore", journal, "--until", STARTED - 1, "--yes")
    assert said.status == 1
    assert f"({STARTED}) at the earliest" in said.err


def test_a_moment_before_the_last_rewrite_is_refused(tmp_path: Path, run: Run) -> None:
    journal = several_files(tmp_path / "journal")
    said = run("restore", journal, "--until", STARTED + 5, "--yes")
    assert said.status == 1
    assert "at the earliest" in said.err
    assert run("restore", journal, "--until", int(time.time()) + 1, "--yes").out.startswith(
        "the journal has no record after"
    )


def test_a_time_of_which_format_1_noted_nothing_is_refused(tmp_path: Path, run: Run) -> None:
    directory = tmp_path / "journal"
    directory.mkdir()
    lines = [line_of(Record("start", at=STARTED, version=1)), line_of(Record("set", key="a", value="1"))]
    (directory / "journal-000001.jsonl").write_bytes(b"".join(lines))
    write_journal(directory, sets("b"), now=STARTED + 100)
    for until in (STARTED + 50, STARTED + 99):
        said = run("restore", directory, "--until", until, "--yes")
        assert (said.status, "was written in format 1" in said.err) == (1, True)
    assert run("restore", directory, "--until", STARTED + 100).out.startswith("the journal has no record after")


def test_an_unfinished_last_record_is_no_obstacle(journal: Path, run: Run) -> None:
    with (journal / "increment-000001.jsonl").open("ab") as file:
        file.write(b'{"crc":"00')
    assert run("restore", journal, "--until", STARTED + 10, "--yes").status == 0
    assert keys(journal) == "a b"


@pytest.mark.parametrize("text", ["2023-11-14T22:13:30Z", "2023-11-14T22:13:30.9+00:00", "2023-11-15 03:43:30+05:30"])
def test_times_may_be_iso_8601(journal: Path, run: Run, text: str) -> None:
    assert datetime.fromisoformat("2023-11-14T22:13:30Z") == datetime.fromtimestamp(STARTED + 10, UTC)
    assert run("restore", journal, "--until", text, "--yes").status == 0
    assert keys(journal) == "a b"


def test_what_is_no_time_is_wrong_usage(journal: Path, run: Run) -> None:
    with pytest.raises(SystemExit) as ended:
        run("restore", journal, "--until", "yesterday")
    assert ended.value.code == 2


def test_an_interrupted_restore_leaves_the_journal_as_it_was(
    journal: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("restore", journal, "--until", STARTED + 10)
    before = tree(journal)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("memcache_kv.journal.tools.restore.start_line", interrupt)
    assert run("restore", journal, "--until", STARTED + 10, "--yes").status == 130
    assert tree(journal) == before


def test_a_bad_flush_all_on_a_real_server_is_undone(tmp_path: Path) -> None:
    flags = ("-p", "0", "-l", "127.0.0.1", "--journal", str(tmp_path / "journal"))
    with Program(*flags) as program:
        for number in range(20):
            assert program.ask(b"set key-%d 5 0 5\r\nvalue\r\n" % number) == b"STORED\r\n"
        time.sleep(2.1)
        until = int(time.time()) - 1
        assert program.ask(b"flush_all\r\n") == b"OK\r\n"
        assert program.ask(b"get key-7\r\n") == b"END\r\n"
        in_use = run_to_its_end("journal", "restore", str(tmp_path / "journal"), "--until", str(until), "--yes")
        assert (in_use.returncode, "stop it first" in in_use.stderr) == (3, True)
        assert program.end() == 0
    done = run_to_its_end("journal", "restore", str(tmp_path / "journal"), "--until", str(until), "--yes")
    assert done.returncode == 0, done.stderr
    assert "20 items; now 0" in done.stdout
    with Program(*flags) as program:
        assert program.ask(b"get key-7\r\n") == b"VALUE key-7 5 5\r\n"
        assert program.end() == 0
