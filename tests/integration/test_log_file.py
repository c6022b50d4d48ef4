"""The log of a real server in a file that is moved away, as logrotate does."""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.program import PATIENCE_SECONDS, command, environment, poll_until, run_to_its_end


@contextmanager
def logging_server(log: Path, *arguments: str) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """A server with its log in a file, and the path of its unix socket."""
    unix = log.parent / "socket"
    process = subprocess.Popen(
        command("-s", str(unix), "--log-file", str(log), *arguments), env=environment(), stderr=subprocess.PIPE
    )
    try:
        poll_until(lambda: log.exists() and "listening on" in log.read_text(), "the server listens")
        yield process, unix
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.communicate()


def connect_once(unix: Path) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(unix))
        connection.sendall(b"version\r\n")
        assert connection.recv(100).startswith(b"VERSION")


def listens(unix: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(unix)) == 0


def test_a_log_that_was_moved_goes_on_under_its_name(tmp_path: Path) -> None:
    log, moved = tmp_path / "log", tmp_path / "log.1"
    with logging_server(log, "-v") as (process, unix):
        log.rename(moved)
        os.kill(process.pid, signal.SIGHUP)
        connect_once(unix)
        poll_until(lambda: log.exists() and "connection closed" in log.read_text(), "the new file is written")
    assert "listening on" in moved.read_text()
    line = log.read_text().splitlines()[-1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO    Signal handled: SIGTERM\.", line)


def test_every_line_of_a_json_log_is_an_object(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with logging_server(log, "--log-format", "json", "--log-level", "debug", "--debug-commands") as (_, unix):
        connect_once(unix)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {tuple(line) for line in lines} == {("time", "level", "message")}
    assert {"info", "debug"} <= {line["level"] for line in lines}
    assert any(line["message"].endswith(" version") for line in lines)


def test_warnings_alone_leave_the_rest_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("listening on\n")  # which the server leaves out
    with logging_server(log, "-v", "--log-level", "error") as (_, unix):
        poll_until(lambda: listens(unix), "the server listens")
    assert log.read_text() == "listening on\n"


def test_a_log_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    done = run_to_its_end("-p", "0", "--log-file", str(tmp_path))
    assert (done.returncode, done.stderr) == (1, f"memcache-kv: can't write the log {tmp_path}: Is a directory\n")


def test_an_error_at_the_start_has_the_form_that_was_asked_for(tmp_path: Path) -> None:
    done = run_to_its_end("-p", "0", "--log-file", str(tmp_path), "--log-format", "json")
    row = json.loads(done.stderr)
    assert row["level"] == "error"
    assert row["message"].startswith("memcache-kv: can't write the log")
