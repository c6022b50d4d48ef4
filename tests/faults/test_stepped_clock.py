"""A machine's clock that is set while a server runs or between two runs, and a machine that is suspended."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.program import Program, poll_until

HOUR, DAY = 3600, 86400
FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
SLACK_SECONDS = 60
"""How long a test may take on a busy machine."""


class SteppedProgram(Program):
    """A server whose first argument names the file that says how far ahead its wall clock is."""

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(Path(__file__).with_name("set_clock.py")), *arguments]


class FaketimeProgram(Program):
    """A server under libfaketime, in which `time.sleep` fails: its clock_nanosleep does not know the true clock."""

    def command(self, *arguments: str) -> list[str]:
        program = "import select, sys; from memcache_kv.unpatched import time; "
        program += "time.sleep = lambda s: select.select([], [], [], s) and None; "
        return [sys.executable, "-c", program + "from memcache_kv.cli import main; sys.exit(main())", *arguments]


class Machine:
    """What has a clock that can be set, and a server on a journal.

    has_faketime: whether libfaketime sets it.
    """

    def __init__(self, path: Path, has_faketime: bool) -> None:
        self.has_faketime = has_faketime
        self._faketime_file = path / "faketime"
        self._file = path / "clock"
        self.journal = path / "journal"
        self._ahead = self._suspended = 0
        self.set_clock(0)

    def set_clock(self, seconds: int) -> None:
        """Set it to be so many seconds ahead of the true time."""
        self._ahead = seconds
        self._write()

    def suspend(self, seconds: int) -> None:
        """Suspend the machine for so long, and wake it up."""
        self._suspended += seconds
        self._write()

    def _write(self) -> None:
        for file, text in ((self._file, f"{self._ahead} {self._suspended}"), (self._faketime_file, f"{self._ahead:+}")):
            fresh = file.with_suffix(".new")
            fresh.write_text(text)
            fresh.replace(file)

    def start(self) -> Program:
        flags = ("-p", "0", "-l", "127.0.0.1", "--journal", str(self.journal))
        if not self.has_faketime:
            return SteppedProgram(str(self._file), *flags)
        return FaketimeProgram(
            *flags,
            LD_PRELOAD=str(FAKETIME[0]),
            FAKETIME_TIMESTAMP_FILE=str(self._faketime_file),
            FAKETIME_NO_CACHE="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
        )

    def written(self, text: bytes) -> bool:
        """Tell whether this stands in the journal."""
        return any(text in file.read_bytes() for file in self.journal.glob("increment-*.jsonl"))

    def kill(self, server: Program, last_key: bytes) -> None:
        """kill -9, once what was stored last is written."""
        poll_until(lambda: self.written(b'"key":"%b"' % last_key), "it is written")
        server.kill()


@pytest.fixture(params=["replaced", "faketime"])
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Machine:
    if request.param == "faketime" and not FAKETIME:
        pytest.skip("libfaketime is not installed")
    return Machine(tmp_path, request.param == "faketime")


def store(server: Program, key: bytes, ttl: int) -> None:
    assert server.ask(b"set %b 0 %d 1\r\nx\r\n" % (key, ttl)) == b"STORED\r\n"


def left(server: Program, key: bytes) -> int | None:
    """How many seconds a key is still to live; None where it is not there."""
    reply = server.ask(b"mg %b t\r\n" % key)
    return None if reply == b"EN\r\n" else int(reply.removeprefix(b"HD t"))


def is_about(seconds: int | None, expected: int) -> bool:
    return seconds is not None and expected - SLACK_SECONDS <= seconds <= expected


@pytest.mark.parametrize("step", [DAY, -DAY, HOUR, -HOUR])
def test_an_hour_stays_an_hour_when_the_clock_is_set_while_serving(machine: Machine, step: int) -> None:
    with machine.start() as server:
        store(server, b"before", HOUR)
        machine.set_clock(step)
        server.wait_for(b"the system's clock was set ")
        store(server, b"after", HOUR)
        assert is_about(left(server, b"before"), HOUR)
        assert is_about(left(server, b"after"), HOUR)
        machine.kill(server, b"after")
    with machine.start() as server:
        assert is_about(left(server, b"before"), HOUR)
        assert is_about(left(server, b"after"), HOUR)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a clock that counts suspends")
def test_the_time_of_a_suspend_has_passed(tmp_path: Path) -> None:
    """What was to expire in it has expired at once, and nothing else has, before and after a kill."""
    machine = Machine(tmp_path, has_faketime=False)  # it can't set one clock only
    with machine.start() as server:
        store(server, b"brief", HOUR)
        store(server, b"long", DAY)
        machine.suspend(2 * HOUR)
        assert left(server, b"brief") is None
        assert is_about(left(server, b"long"), DAY - 2 * HOUR)
        store(server, b"fresh", HOUR)
        machine.suspend(1800)
        assert is_about(left(server, b"fresh"), 1800)
        machine.kill(server, b"fresh")
        assert b"clock" not in server.said
    with machine.start() as server:
        assert left(server, b"brief") is None
        assert is_about(left(server, b"long"), DAY - 2 * HOUR - 1800)
        assert is_about(left(server, b"fresh"), 1800)


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_comes_back_when_the_clock_is_set_back_between_two_runs(machine: Machine, ends: int) -> None:
    with machine.start() as server:
        store(server, b"long", DAY)
        store(server, b"expires", 1)
        store(server, b"deleted", 1)
        poll_until(lambda: left(server, b"expires") is None, "it expires")
        assert server.ask(b"delete deleted\r\n") == b"NOT_FOUND\r\n"
        store(server, b"last", HOUR)
        if ends == signal.SIGTERM:
            assert server.end() == os.EX_OK
        else:
            machine.kill(server, b"last")
    machine.set_clock(-2 * HOUR)
    for _ in range(2):
        with machine.start() as server:
            assert [left(server, key) for key in (b"expires", b"deleted")] == [None, None]
            assert is_about(left(server, b"long"), DAY)
            assert is_about(left(server, b"last"), HOUR)
            assert server.end() == os.EX_OK


def test_a_unix_time_that_a_client_gives_means_what_the_machine_s_clock_says(machine: Machine) -> None:
    """Also where that was set back, so that the journal knows later times."""
    with machine.start() as server:
        store(server, b"a", HOUR)
        machine.kill(server, b"a")
    machine.set_clock(-HOUR)
    with machine.start() as server:
        store(server, b"b", int(time.time()) - HOUR + 1000)
        assert is_about(left(server, b"b"), 1000)
