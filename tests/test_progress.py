"""How far a long piece of work has come, where there is no terminal."""

import io
import itertools
from pathlib import Path

import pytest

from memcache_kv import progress
from memcache_kv.observe.log import Log
from memcache_kv.progress import show_progress


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A log's stream; each step takes two seconds, and is due for a line."""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    monkeypatch.setattr("memcache_kv.progress.time.monotonic", itertools.count(0, 2).__next__)
    return io.StringIO()


def test_a_line_says_how_much_is_done_and_of_what(stream: io.StringIO) -> None:
    with show_progress(Log(stream=stream), Path("/somewhere/journal")) as show:
        show(50, 200, 7)
        show(100, 200, 14)
    assert stream.getvalue().splitlines() == [
        "recovering journal: 25 %, 7 records, 4/s, 6 s left",
        "recovering journal: 50 %, 14 records, 4/s, 4 s left",
    ]


def test_where_nobody_knows_how_much_there_is_only_what_is_done_is_said(stream: io.StringIO) -> None:
    with show_progress(Log(stream=stream), Path("journal"), "loading into", "items") as show:
        show(50, 0, 7)
    assert stream.getvalue() == "loading into journal: 7 items, 4/s\n"


def test_lines_are_seldom(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 1000.0)
    with show_progress(Log(stream=stream), Path("journal")) as show:
        for step in range(100):
            show(step, 100, step)
    assert stream.getvalue() == ""
