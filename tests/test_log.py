"""What is written on standard error, and when."""

import io
import sys
import syslog

import pytest

from memcache_kv.log import Log, SystemLog


def lines(verbosity: int) -> list[str]:
    stream = io.StringIO()
    log = Log(verbosity, stream)
    log.say("said")
    log.event("event")
    log.request(30, b"get a")
    log.reply(30, b"END")
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(
    ("verbosity", "written"),
    [
        (0, ["said"]),
        (1, ["said", "event"]),
        (2, ["said", "event", "<30 get a", ">30 END"]),
        (5, ["said", "event", "<30 get a", ">30 END"]),
    ],
)
def test_verbosity_decides_what_is_written(verbosity: int, written: list[str]) -> None:
    assert lines(verbosity) == written


def test_bytes_that_are_no_text_are_written_readably() -> None:
    stream = io.StringIO()
    Log(2, stream).request(1, b"get \xff\xc3\xbc")
    assert stream.getvalue() == "<1 get \\xff\u00fc\n"


def test_a_line_is_written_at_once() -> None:
    class Noting(io.StringIO):
        flushed_after = ""

        def flush(self) -> None:
            self.flushed_after = self.getvalue()

    stream = Noting()
    Log(0, stream).say("line")
    assert stream.flushed_after == "line\n"


def test_a_log_that_was_closed_is_dropped() -> None:
    stream = io.StringIO()
    stream.close()
    log = Log(2, stream)
    log.say("lost")
    log.request(1, b"get a")


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device")])
def test_a_log_that_cannot_be_written_is_dropped(error: OSError) -> None:
    class Full(io.StringIO):
        tries = 0

        def write(self, text: str) -> int:
            self.tries += 1
            raise error

    stream = Full()
    Log(0, stream).say("lost")
    assert stream.tries == 1


def test_the_log_goes_to_standard_error_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    Log().say("line")
    assert capsys.readouterr() == ("", "line\n")
    assert sys.stderr is not None


def test_without_standard_error_there_is_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    Log(2).say("lost")


def test_a_log_can_go_on_in_the_systems_as_one_message_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    monkeypatch.setattr(syslog, "openlog", lambda name, options, facility: messages.append(f"opened as {name}"))
    monkeypatch.setattr(syslog, "syslog", messages.append)
    before = io.StringIO()
    log = Log(0, before)
    log.say("here")
    log.redirect(SystemLog())
    log.say("there\nand there")
    assert before.getvalue() == "here\n"
    assert messages == ["opened as memcache-kv", "there", "and there"]
