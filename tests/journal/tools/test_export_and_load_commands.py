"""`journal export` and `journal load`: data out of a journal, and into one."""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from memcache_kv.journal import Journal, JournalDirectory
from memcache_kv.journal.tools.load import SourceItem
from memcache_kv.store.entry import deadline_of, state_of, wire_bytes_of
from tests.integration.wire import MEMCACHED, OURS, RunningServer, ServerUnavailable
from tests.journal.tools.journals import (
    Run,
    contents,
    flip,
    keys,
    middle_of,
    opened,
    sets,
    several_files,
    tree,
    write_journal,
)

LATER = 4_000_000_000
"""A unix time in the year 2096: what expires then is alive whenever the tests run."""
CLOCKS_APART_SECONDS = 2
"""memcached's clock counts whole seconds, and may be so far from the system's."""


def varied(journal: Journal) -> None:
    """Items of every kind."""
    journal.stored(b"plain", 0, 0, 0, b'with "quotes"\nand a line')
    journal.stored(b"facts", 7, LATER, 11, b"", 2 | 4)
    journal.stored(b"\xff\x00key", 2**32 - 1, 0, 0, b"\xfe")
    journal.stored("käse".encode(), 0, 0, 0, "grün".encode())
    journal.stored(b"expired", 0, 1, 0, b"x")
    journal.stored(b"deleted", 0, 0, 0, b"x")
    journal.deleted(b"deleted")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal with items of every kind."""
    return write_journal(tmp_path / "journal", varied)


# Export


def test_an_export_has_a_json_object_a_line_for_each_item_that_lives(journal: Path, run: Run) -> None:
    said = run("export", journal)
    assert (said.status, said.err) == (0, "")
    found = {
        json.dumps(item.pop("key", item.pop("key64", None))): item for item in map(json.loads, said.out.splitlines())
    }
    assert found == {
        '"plain"': {"value": 'with "quotes"\nand a line'},
        '"facts"': {"value": "", "flags": 7, "exp": LATER, "cas": 11, "stale": True, "won": True},
        '"/wBrZXk="': {"value64": "/g==", "flags": 2**32 - 1},
        '"k\\u00e4se"': {"value": "gr\u00fcn"},
    }


def test_an_export_to_a_file_replaces_it_when_it_is_complete(journal: Path, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "export.jsonl"
    file.write_text("old")
    said = run("export", journal, "--output", file)
    assert (said.status, said.out) == (0, "")
    assert len(file.read_text().splitlines()) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export.jsonl", "journal"]


def test_an_export_that_fails_leaves_the_old_file(
    journal: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(store: object) -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    file = tmp_path / "export.jsonl"
    file.write_text("old")
    monkeypatch.setattr("memcache_kv.journal.tools.cli.export_lines", interrupted)
    assert run("export", journal, "--output", file).status == 130
    assert file.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export.jsonl", "journal"]


def test_a_damaged_journal_is_not_exported(tmp_path: Path, run: Run) -> None:
    journal = several_files(tmp_path / "journal")
    file = journal / "increment-000002.jsonl"
    place = middle_of(file, "value of e")
    line = file.read_bytes().rindex(b"\n", 0, place) + 1
    flip(file, place)
    said = run("export", journal)
    assert said.status == 1
    assert f"is damaged at offset {line}:" in said.err


# Load


def items_of(path: Path) -> set[tuple[object, ...]]:
    found: set[tuple[object, ...]] = set()
    for key, entry in opened(path).items():
        found.add((key, wire_bytes_of(entry), deadline_of(entry), state_of(entry)))
    return found


def test_an_export_loaded_elsewhere_is_the_same(journal: Path, run: Run, tmp_path: Path) -> None:
    run("export", journal, "--output", tmp_path / "export.jsonl")
    said = run("load", tmp_path / "new", "--export", tmp_path / "export.jsonl")
    assert said.status == 0
    assert said.out.startswith("loaded 4 items")
    assert items_of(tmp_path / "new") == items_of(journal)
    assert run("verify", tmp_path / "new").status == 0


def test_an_export_may_come_from_standard_input(
    journal: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "export").write_text(run("export", journal).out)
    with (tmp_path / "export").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert run("load", tmp_path / "new", "--export", "-").status == 0
    assert items_of(tmp_path / "new") == items_of(journal)


def test_loading_adds_to_a_journal_and_overwrites(tmp_path: Path, run: Run) -> None:
    journal = several_files(tmp_path / "journal")
    (tmp_path / "text").write_text("a new value\nz  begins with a blank\n")
    assert run("load", journal, "--text", tmp_path / "text").status == 0
    found = contents(journal)
    assert sorted(found) == [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h", b"i", b"z"]
    assert (found[b"a"], found[b"z"], found[b"i"]) == (
        (0, b"new value"), (0, b" begins with a blank"), (0, b"value of i"),
    )  # fmt: skip
    assert run("verify", journal).status == 0
    write_journal(journal, sets("later"))
    assert keys(journal) == "a b c d e f g h i later z"


def test_an_unfinished_record_is_cut_off_before_something_is_added(tmp_path: Path, run: Run) -> None:
    journal = write_journal(tmp_path / "journal", sets("a"))
    with (journal / "increment-000001.jsonl").open("ab") as file:
        file.write(b'{"crc":"00')
    (tmp_path / "text").write_text("b 1\n")
    assert run("load", journal, "--text", tmp_path / "text").status == 0
    assert keys(journal) == "a b"
    assert len(list(journal.glob("*.torn-*"))) == 1


def test_lines_that_are_no_items_are_named_and_the_others_loaded(tmp_path: Path, run: Run) -> None:
    (tmp_path / "text").write_bytes(
        b"good value\n\nnovalue\n" + b"k" * 251 + b" long\nbad\x01key v\n leading\ntabbed\tvalue of it\r\nempty \n"
    )
    said = run("load", tmp_path / "new", "--text", tmp_path / "text")
    assert said.status == 1
    assert contents(tmp_path / "new") == {b"good": (0, b"value"), b"tabbed": (0, b"value of it"), b"empty": (0, b"")}
    assert [line.partition(":")[0] for line in said.err.splitlines()] == [
        "line 2", "line 3", "line 4", "line 5", "line 6", "memcache-kv journal",
    ]  # fmt: skip
    assert "5 lines were not loaded" in said.err


def test_lines_of_an_export_that_are_none_are_named(tmp_path: Path, run: Run) -> None:
    lines = [
        '{"key":"a","value":"1"}',
        "{",
        '{"key":"","value":"1"}',
        '{"key":"b"}',
        '{"key":"c","value":"1","flags":-1}',
    ]
    (tmp_path / "export").write_text("\n".join(lines) + "\n" + json.dumps({"key": "old", "value": "", "exp": 1}) + "\n")
    said = run("load", tmp_path / "new", "--export", tmp_path / "export")
    assert said.status == 1
    assert keys(tmp_path / "new") == "a"
    assert "1 items had expired and were not loaded" in said.out
    assert said.err.count("line ") == 4


def test_an_interrupted_load_leaves_the_journal_as_it_was(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = several_files(tmp_path / "journal")
    before = tree(journal)
    monkeypatch.setattr("memcache_kv.journal.tools.cli.text_items", _interrupted_items)
    assert run("load", journal, "--text", os.devnull).status == 130
    assert tree(journal) == before


def _interrupted_items(file: object) -> Iterator[SourceItem]:
    yield SourceItem(b"half", b"way" * 1_000_000)
    raise KeyboardInterrupt


def test_a_journal_in_use_is_not_loaded_into(journal: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a 1\n")
    with closing(JournalDirectory(journal)):
        assert run("load", journal, "--text", tmp_path / "text").status == 3


def test_what_is_not_there_cannot_be_loaded(tmp_path: Path, run: Run) -> None:
    said = run("load", tmp_path / "new", "--text", tmp_path / "none")
    assert (said.status, "No such file" in said.err) == (1, True)
    said = run("load", tmp_path / "new", "--memcached", "127.0.0.1:1")
    assert (said.status, "can't copy from memcached at 127.0.0.1:1" in said.err) == (1, True)
    with pytest.raises(SystemExit) as ended:
        run("load", tmp_path / "new")
    assert ended.value.code == 2


# From a server


@pytest.fixture(params=[MEMCACHED, OURS])
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """A memcached, or a server of ours."""
    try:
        server = RunningServer(request.param)
    except ServerUnavailable as error:
        pytest.skip(str(error))
    with closing(server):
        yield server


def test_a_running_memcached_is_copied(server: RunningServer, run: Run, tmp_path: Path) -> None:
    began = int(time.time())
    with server.connect() as connection:
        replies = connection.makefile("rb")
        expected: dict[bytes, tuple[int, bytes]] = {}
        for number in range(500):
            key, value = b"key/%d&=%%" % number, b"\r\nvalue \xff %d" % number * (number % 7)
            connection.sendall(b"set %b %d %d %d\r\n%b\r\n" % (key, number, 1000 * (number % 2), len(value), value))
            assert replies.readline() == b"STORED\r\n"
            expected[key] = (number, value)
        connection.sendall(b"ms a2V5IHdpdGggYmxhbmtz 2 b F9\r\nhi\r\n")  # "key with blanks"
        assert replies.readline().startswith(b"HD")
        expected[b"key with blanks"] = (9, b"hi")
    stored = int(time.time())
    said = run("load", tmp_path / "new", "--memcached", f"127.0.0.1:{server.port}")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith("loaded 501 items")
    assert contents(tmp_path / "new") == expected
    deadlines = {key: deadline_of(entry) for key, entry in opened(tmp_path / "new").items()}
    assert deadlines[b"key/0&=%"] == deadlines[b"key with blanks"] == 0
    assert began - CLOCKS_APART_SECONDS <= deadlines[b"key/1&=%"] - 1000 <= stored + CLOCKS_APART_SECONDS


def test_what_answers_like_no_memcached_is_refused_and_nothing_loaded(run: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as listing, listener.accept()[0] as fetching:
                for connection in (listing, fetching):
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(100)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        said = run("load", tmp_path / "new", "--memcached", f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join(60)
    assert said.status == 1
    assert "stats was answered by b'HTTP/1.1 400 Bad Request'" in said.err
    assert list((tmp_path / "new").iterdir()) == []


def test_a_flush_that_is_due_is_seen_by_an_export(tmp_path: Path, run: Run) -> None:
    def delayed(journal: Journal) -> None:
        journal.stored(b"a", 0, 0, 0, b"1")
        journal.flushed(1_700_000_050)

    journal = write_journal(tmp_path / "journal", delayed)
    assert run("export", journal).out == ""
    assert run("stats", journal, "--json").json["live_items"] == 0


def test_an_empty_memcached_is_copied_too(server: RunningServer, run: Run, tmp_path: Path) -> None:
    assert run("load", tmp_path / "new", "--memcached", f"127.0.0.1:{server.port}").out.startswith("loaded 0 items")
    assert contents(tmp_path / "new") == {}
