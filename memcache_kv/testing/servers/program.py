"""A memcached, or memcache-kv, that is run as a process of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import tempfile
from typing import IO

from memcache_kv import Server
from memcache_kv.testing.servers.backing import ServerFailed
from memcache_kv.testing.servers.control import ControlConnection
from memcache_kv.testing.servers.elsewhere import EMPTYING
from memcache_kv.testing.time_travel import TimeTravel
from memcache_kv.testing.wire.lane import moment
from memcache_kv.unpatched import socket, subprocess, time

PORTS_TRIED = 5
"""How often it is started on another port, as somebody else can take the first one."""
START_LOOK_SECONDS = 0.002
LOOPBACK = "127.0.0.1"


class ServerProgram:
    """Runs a program with memcached's flags on a free port of 127.0.0.1.

    executable: its path, or its name in PATH. args: more flags for it. timeout_seconds: how long it may take to start.
    """

    def __init__(self, executable: str, args: str, timeout_seconds: float) -> None:
        self.embedded: Server | None = None
        self.time_travel: TimeTravel | None = None
        self.description = executable
        self._command = [executable, *shlex.split(args)]
        self._timeout_seconds = timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._control: ControlConnection

    @property
    def address(self) -> tuple[str, int]:
        """Its host and port; another port after a restart."""
        return LOOPBACK, self._port

    def start(self) -> None:
        """Run the program until it answers. Raises ServerFailed."""
        for _ in range(PORTS_TRIED):
            self._port = _free_port()
            with tempfile.TemporaryFile() as output:
                self._process = self._run(output)
                if self._wait():
                    return
                output.seek(0)
                said = output.read().decode("utf-8", "backslashreplace").strip()
            if "in use" not in said.lower():
                break
        raise ServerFailed(f"{shlex.join(self._command)} ended before it answered; it said: {said or 'nothing'}")

    def stop(self) -> None:
        """End the process."""
        if self._process is None:
            return
        self._control.close()
        self._process.kill()  # there is nothing that it would have to save, and memcached takes its time to end
        self._process.wait()
        self._process = None

    def reset(self, is_changed: bool) -> None:
        """Remove all items and reset the counters; start it anew if more is changed, or if it ended."""
        if is_changed or self._process is None or self._process.poll() is not None:
            self.stop()
            self.start()
        else:
            self._control.demand(EMPTYING)

    def stats(self, what: str) -> dict[str, str]:
        """Return what `stats WHAT` says. Raises ServerFailed."""
        return self._control.stats(what)

    def _run(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        user = [] if os.geteuid() or "-u" in self._command else ["-u", pwd.getpwuid(0).pw_name]
        place = ["-l", LOOPBACK, "-p", str(self._port), "-U", "0"]
        self._control = ControlConnection(self.address, self._timeout_seconds)
        try:
            return subprocess.Popen(
                [*self._command, *user, *place],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for pytest, which then stops it
            )
        except OSError as error:
            raise ServerFailed(f"{self.description} can't be run: {error.strerror}") from None

    def _wait(self) -> bool:
        """Wait until it answers, and return whether it did before it ended. Raises ServerFailed if it takes long."""
        assert self._process is not None
        give_up_at = moment() + self._timeout_seconds
        while self._process.poll() is None:
            with contextlib.suppress(OSError, EOFError):
                self._control.ask("version")
                return self._process.poll() is None
            if moment() > give_up_at:
                self.stop()
                raise ServerFailed(
                    f"{self.description} does not answer after {self._timeout_seconds:g} seconds (--memcached-timeout)"
                )
            time.sleep(START_LOOK_SECONDS)
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
