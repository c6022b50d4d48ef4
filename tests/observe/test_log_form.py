"""What a line of the log looks like."""

import json

import pytest

from memcache_kv.observe.log_form import Form, Level, as_json, plain, with_priority, with_time

AT = 1_800_000_000.25


def now() -> float:
    return AT


@pytest.mark.parametrize(
    ("form", "line"),
    [(plain, "said\n"), (with_priority, "<6>said\n"), (with_time(now), "2027-01-15 08:00:00.250 INFO    said\n")],
)
def test_a_line_of_text(form: Form, line: str, utc: None) -> None:
    assert form(Level.INFO, "said", []) == line


def test_a_line_of_json_has_time_level_and_message() -> None:
    line = as_json(now)(Level.WARNING, 'a "key" ü', [])
    assert line.endswith("}\n")
    assert json.loads(line) == {"time": "2027-01-15T08:00:00.250Z", "level": "warning", "message": 'a "key" ü'}


def test_a_traceback_has_the_form_of_its_line() -> None:
    assert plain(Level.ERROR, "failed", ["one", "two"]) == "failed\none\ntwo\n"
    assert with_priority(Level.ERROR, "failed", ["one", "two"]) == "<3>failed\n<3>one\n<3>two\n"
    assert json.loads(as_json(now)(Level.ERROR, "failed", ["one", "two"]))["traceback"] == "one\ntwo"


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """The local time is UTC."""
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
