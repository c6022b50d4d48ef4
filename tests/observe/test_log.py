"""What is written on standard error, and when."""

import io
import sys
import syslog

import pytest

from memcache_kv.errors import ListenError
from memcache_kv.observe.log import REPEAT_SECONDS, Log, SystemLog, place
from memcache_kv.observe.log_form import Level, with_priority


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


@pytest.mark.parametrize(
    ("level", "written"),
    [
        (Level.ERROR, ["failed: why"]),
        (Level.WARNING, ["warning: odd", "rare", "failed: why"]),
        (Level.INFO, ["warning: odd", "rare", "failed: why", "said", "event"]),
        (Level.DEBUG, ["warning: odd", "rare", "failed: why", "said", "event", "<30 get a"]),
    ],
)
def test_lines_below_the_level_are_left_out(level: Level, written: list[str]) -> None:
    stream = io.StringIO()
    log = Log(2, stream, level=level)
    log.warn("odd")
    log.say_rarely("kind", "rare")
    log.failure("failed", OSError(1, "why"))
    log.say("said")
    log.event("event")
    log.request(30, b"get a")
    lines = stream.getvalue().splitlines()
    assert [line for line in lines if not line.startswith(("Traceback", "OSError", "PermissionError"))] == written


# What a terminal would act on


def written(verbosity: int = 2) -> tuple[Log, io.StringIO]:
    stream = io.StringIO()
    return Log(verbosity, stream), stream


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"get \x1b]0;title\x07", r"get \x1b]0;title\x07"),
        (b"get \x9b31m", r"get \x9b31m"),
        (b"get \xc2\x9b31m", r"get \x9b31m"),
        (b"get a\rget b", r"get a\rget b"),
        (b"get a\x7f\x00\t", r"get a\x7f\x00\t"),
        ("get a\u202eb".encode(), r"get a\u202eb"),
        ("get a b\u00fc\u4e2d".encode(), "get a b\u00fc\u4e2d"),
    ],
)
def test_nothing_that_a_terminal_acts_on_is_written(line: bytes, shown: str) -> None:
    log, stream = written()
    log.request(1, line)
    log.reply(1, line)
    assert stream.getvalue() == f"<1 {shown}\n>1 {shown}\n"


def test_a_line_stays_one_whatever_is_in_it() -> None:
    log, stream = written(0)
    log.say("a journal in /a\nb\udcff")
    assert stream.getvalue() == "a journal in /a\\nb\\udcff\n"


# Failures


def raised(error: Exception) -> Exception:
    """An error that was raised and caught."""
    try:
        raise error
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device"), "can't do it: No space left on device; it goes on"),
        (ListenError("it is taken"), "can't do it: it is taken; it goes on"),
    ],
)
def test_a_failure_is_one_line_with_the_reason(error: Exception, line: str) -> None:
    log, stream = written(0)
    log.failure("can't do it", raised(error), "it goes on")
    assert stream.getvalue() == line + "\n"


@pytest.mark.parametrize(("error", "name"), [(ValueError("a\nb"), r"ValueError: a\nb"), (MemoryError(), "MemoryError")])
def test_a_fault_is_told_with_its_place(error: Exception, name: str) -> None:
    log, stream = written(0)
    fault = raised(error)
    log.failure("can't do it", fault)
    assert stream.getvalue() == f"can't do it: {name} (at {place(fault)})\n"
    assert place(fault).startswith("tests.observe.test_log:")


def test_the_place_is_the_last_line_of_our_own_code() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise RuntimeError

    with pytest.raises(RuntimeError) as caught:
        Log(0, Broken()).say("line")
    assert place(caught.value).startswith("memcache_kv.observe.log_queue:")
    assert place(ValueError("never raised")) == "?:0"


def test_under_v_the_traceback_follows() -> None:
    log, stream = written(1)
    log.failure("can't do it", raised(ValueError("\x1b[31m")))
    first, second, *_, last = stream.getvalue().splitlines()
    assert first.startswith(r"can't do it: ValueError: \x1b[31m (at ")
    assert (second, last) == ("Traceback (most recent call last):", r"ValueError: \x1b[31m")


class Seconds:
    """Time that the test moves."""

    now = 5.0

    def __call__(self) -> float:
        return self.now


def test_what_a_stranger_can_cause_is_said_once_in_a_while_and_the_others_are_counted() -> None:
    stream, clock = io.StringIO(), Seconds()
    log = Log(0, stream, clock)
    for _ in range(4):
        log.say_rarely("kind", "line")
    log.say_rarely("other kind", "other line")
    clock.now += REPEAT_SECONDS - 1
    log.say_rarely("kind", "line")
    assert stream.getvalue() == "line\nother line\n"
    clock.now += 1
    log.say_rarely("kind", "line again")
    log.say_rarely("other kind", "other line again")
    clock.now += REPEAT_SECONDS
    log.say_rarely("kind", "line at last")
    assert stream.getvalue().splitlines()[2:] == [
        "line again (and 4 more of this kind since the last line)",
        "other line again",
        "line at last",
    ]


def test_failures_of_one_place_and_reason_are_of_one_kind() -> None:
    stream, clock = io.StringIO(), Seconds()
    log = Log(1, stream, clock)
    for number in (1, 2, 1):
        for error in (raised(OSError(number, "why")), raised(ValueError(f"{number}"))):
            log.failure_rarely("client", error)
    said = [line for line in stream.getvalue().splitlines() if line.startswith("client")]
    assert [line.partition(" (at")[0] for line in said] == ["client: why", "client: ValueError: 1", "client: why"]
    assert stream.getvalue().count("Traceback") == 3
    clock.now += REPEAT_SECONDS
    log.failure_rarely("client", raised(OSError(1, "why")))
    assert "client: why (and 1 more of this kind since the last line)\n" in stream.getvalue()


def test_without_standard_error_there_is_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    Log(2).say("lost")


def test_a_log_can_go_on_in_the_systems_as_one_message_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    monkeypatch.setattr(syslog, "openlog", lambda name, options, facility: messages.append(f"opened as {name}"))
    monkeypatch.setattr(syslog, "syslog", lambda priority, message: messages.append(f"{priority} {message}"))
    before = io.StringIO()
    log = Log(0, before)
    log.say("here")
    log.redirect(SystemLog(), with_priority)
    log.say("there")
    log.warn("and there")
    assert before.getvalue() == "here\n"
    assert messages == ["opened as memcache-kv", "6 there", "4 warning: and there"]
