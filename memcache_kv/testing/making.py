"""Makes the servers behind the fixtures, as the options say."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from memcache_kv.testing.plugin_options import (
    DEFAULT_HOST,
    DEFAULT_TIMEOUT_SECONDS,
    RUNNING_PORT,
    chosen,
    follows_patches,
    port_number,
)
from memcache_kv.testing.process import MemcachedProc
from memcache_kv.testing.servers.backing import BackingServer
from memcache_kv.testing.servers.elsewhere import ServerElsewhere
from memcache_kv.testing.servers.in_process import ServerInProcess
from memcache_kv.testing.servers.program import ServerProgram
from memcache_kv.testing.time_travel import TimeTravel
from memcache_kv.testing.turns import SharedTurns


class ProcArguments(NamedTuple):
    """The arguments of a factory. None means the option of the command line or the ini file."""

    executable: str | None = None
    host: str | None = None
    port: int | None = None
    args: str | None = None
    timeout: float | None = None
    clock: str | None = None


class ProcMaker:
    """Makes servers that are not started yet, all of them with one time. Raises pytest.UsageError and ServerFailed."""

    def __init__(self, config: pytest.Config, given: ProcArguments) -> None:
        self._config = config
        self._host = chosen(config, "host", given.host, str, DEFAULT_HOST)
        self._port = chosen(config, "port", given.port, port_number, 0)
        self._timeout_seconds = chosen(config, "timeout", given.timeout, float, DEFAULT_TIMEOUT_SECONDS)
        self._program = chosen(config, "exec", given.executable, str, "")
        self._flags = chosen(config, "args", given.args, str, "")
        follows = None if given.clock is None else follows_patches(given.clock)
        self._time_travel = TimeTravel(chosen(config, "clock", follows, follows_patches, True))

    def make(self) -> MemcachedProc:
        """Return a server in this process, or a program."""
        if self._port and _workers(self._config) > 1:
            raise pytest.UsageError(
                f"each worker of pytest-xdist has a memcached of its own, so they can't all have the port {self._port}:"
                " leave it out, and take it from the fixture"
            )
        server: BackingServer = (
            ServerProgram(self._program, self._flags, self._timeout_seconds)
            if self._program
            else ServerInProcess(self._flags, self._time_travel)
        )
        return MemcachedProc(server, self._host, self._port, SharedTurns(None))

    def running(self, folder: Path) -> MemcachedProc:
        """Return a server that runs already. folder: one that all processes of the run have."""
        server = ServerElsewhere(self._host, self._port or RUNNING_PORT, self._timeout_seconds)
        shared = folder / "memcached.turns" if _workers(self._config) > 1 else None
        return MemcachedProc(server, DEFAULT_HOST, 0, SharedTurns(shared))


def _workers(config: pytest.Config) -> int:
    """Return how many processes pytest-xdist has; 1 without it."""
    return int(getattr(config, "workerinput", {}).get("workercount", 1))
