"""Where a server's log goes, and in what form."""

import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from memcache_kv.config.settings import LogFormat, Settings
from memcache_kv.errors import ConfigError
from memcache_kv.observe.log_setup import JOURNAL_STREAM, is_journal_stream, make_log, open_log_file

TIMED = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO    line\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def line_of(settings: Settings, stream: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what a log with these settings writes to a stream in place of standard error."""
    monkeypatch.setattr(sys, "stderr", stream)
    make_log(settings).say("line")
    return str(stream.getvalue())


def test_lines_in_a_pipe_are_as_memcached_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert line_of(Settings(verbose=1), io.StringIO(), monkeypatch) == "line\n"


def test_a_terminal_shows_the_time_with_v_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert line_of(Settings(), Terminal(), monkeypatch) == "line\n"
    assert re.fullmatch(TIMED, line_of(Settings(verbose=1), Terminal(), monkeypatch))


def test_json_is_json_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(verbose=1, log_format=LogFormat.JSON, log_file=tmp_path / "log")
    assert json.loads(line_of(settings, Terminal(), monkeypatch))["message"] == "line"
    log = make_log(settings)
    open_log_file(settings, log)
    log.say("in the file")
    assert json.loads((tmp_path / "log").read_text())["message"] == "in the file"


def test_lines_in_a_file_have_the_time(tmp_path: Path) -> None:
    settings = Settings(log_file=tmp_path / "log")
    log = make_log(settings)
    open_log_file(settings, log)
    log.say("line")
    assert re.fullmatch(TIMED, (tmp_path / "log").read_text())


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    settings = Settings(log_file=tmp_path)
    with pytest.raises(ConfigError, match=f"can't write the log {tmp_path}: Is a directory"):
        open_log_file(settings, make_log(settings))


def test_systemd_s_journal_gets_priorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "stream").open("w+") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv(JOURNAL_STREAM, f"{found.st_dev}:{found.st_ino}")
        make_log(Settings()).warn("line")
        stream.seek(0)
        assert stream.read() == "<4>warning: line\n"
        assert not is_journal_stream(f"{found.st_dev}:{found.st_ino + 1}")
