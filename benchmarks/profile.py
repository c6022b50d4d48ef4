"""Split the time of a request into kernel, interpreter and waiting, for memcache_kv and for memcached beside it.

Three tables: where the time of a request goes, the system calls that it takes, and the functions that take most.
docs/howto/where_the_time_goes.md explains each column, and how the figures are found.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.contenders import Contender, machine_line, memcached, ours, running, statistics_of
from benchmarks.durability_report import COUNT, RATIO, Column, Figure, Section, as_json, as_markdown
from benchmarks.durability_servers import LOADER_CORES, SERVER_CORES, on_cores
from benchmarks.interpreter_lock import Held, InterpreterLock, NoLockError
from benchmarks.perf_tool import Hot, counting, perf_program, recording
from benchmarks.rounds import Tell
from benchmarks.thread_times import ThreadTimes, kernel_share, read_times, spent
from benchmarks.ways import Way, ways_of
from benchmarks.workloads import BY_NAME, NO_MEMCASLAP, LoadError, Workload, memcaslap_program
from clients.local_server import LocalServer, ServerStartError

LOADS = ("get90", "set50", "mget50", "pipe32")
WARM_UP_SECONDS = 1
CALLS_SECONDS = 1
SPARE_SECONDS = 3
"""The load runs so much longer than the measurements: starting and ending them takes time, too."""
BEGIN_SECONDS = 30
SHOWN = 6
"""System calls, and functions on each side, that are shown of a server."""
TIME_COLUMNS = (
    Column("load"), Column("server"), Column("requests/s", COUNT), Column("µs each", RATIO), Column("kernel", RATIO),
    Column("user", RATIO), Column("no core", RATIO), Column("asleep", RATIO), Column("lock held", RATIO),
    Column("±", RATIO),
)  # fmt: skip
CALL_COLUMNS = (Column("load"), Column("server"), Column("system call"), Column("per request", "{:.3f}"))
FUNCTION_COLUMNS = (
    Column("load"), Column("server"), Column("where"), Column("function"), Column("µs per request", RATIO),
)  # fmt: skip
NO_PERF = (
    "perf is not installed or not allowed: kernel and user are told apart by the ticks of the system's clock, system"
    " calls are counted by strace where it is installed, and the functions are not known"
)

EXAMPLES = """\
examples:
  python -m benchmarks.profile                        four loads, about 2 minutes
  python -m benchmarks.profile --only get90 --seconds 10 --json found.json
  python -m benchmarks.profile --python .venv/bin/python --python /opt/python3.13/bin/python"""


@dataclass(frozen=True)
class Profiled:
    """Hold what was found of one server under one load."""

    requests: int
    seconds: float
    threads: list[ThreadTimes]
    """The busiest one first."""
    hot: Hot
    held: Held | None
    calls: dict[str, float]
    """By name, for each request."""

    def times(self) -> tuple[Figure, ...]:
        """Give the row of the first table, from the requests a second on."""
        each = 1e6 / self.requests
        running = sum(times.running for times in self.threads)
        kernel = running * (self.hot.kernel_share if self.hot.kernel else kernel_share(self.threads))
        worker = self.threads[0]
        asleep = max(self.seconds - worker.running - worker.ready, 0.0)
        held = self.held
        base = each * (running if held and held.on_core else self.seconds)
        return (
            self.requests / self.seconds,
            self.seconds * each,
            kernel * each,
            (running - kernel) * each,
            worker.ready * each,
            asleep * each,
            None if held is None else held.share * base,
            None if held is None else held.error * base,
        )

    def functions(self) -> Iterator[tuple[str, str, float]]:
        """List the functions that take most: where, which, and the µs of a request."""
        each = sum(times.running for times in self.threads) / self.requests * 1e6
        for where, shares in (("kernel", self.hot.kernel), ("user", self.hot.user)):
            for name in sorted(shares, key=lambda name: -shares[name])[:SHOWN]:
                yield where, name, shares[name] * each


class Load(threading.Thread):
    """A load that runs beside the measurements."""

    def __init__(self, workload: Workload, port: int, seconds: int) -> None:
        super().__init__(daemon=True)
        self._workload, self._port, self._seconds = workload, port, seconds
        self._failure: Exception | None = None

    def run(self) -> None:
        """Run the load program."""
        try:
            self._workload.run(self._port, self._seconds)
        except Exception as error:
            self._failure = error

    def end(self) -> None:
        """Wait for the program. Raises LoadError."""
        self.join()
        if self._failure is not None:
            raise LoadError(f"{self._workload.name}: {self._failure}")


def profile(contender: Contender, way: Way | None, workload: Workload, seconds: int, perf: str | None) -> Profiled:
    """Load a server, and look at it meanwhile.

    way: how it runs where it is ours; its interpreter lock is looked at then.
    """
    with running(contender, apart=True) as server, on_cores(LOADER_CORES):
        load = Load(workload, server.address.port, WARM_UP_SECONDS + seconds + CALLS_SECONDS + SPARE_SECONDS)
        load.start()
        _wait_for_load(server)
        found = _look(server, way, seconds, perf)
        load.end()
    return found


def _look(server: LocalServer, way: Way | None, seconds: int, perf: str | None) -> Profiled:
    """Count the system calls first: what perf has to do after it has sampled takes longer than the load."""
    with counting(perf, server.pid) as calls:
        answered = requests_of(server)
        time.sleep(CALLS_SECONDS)
        answered = requests_of(server) - answered
    with recording(perf, server.pid) as hot:
        requests, began, before = requests_of(server), time.monotonic(), read_times(server.pid)
        held = _watch(server, way, seconds)
        threads = spent(before, read_times(server.pid))
        took, requests = time.monotonic() - began, requests_of(server) - requests
    if not requests or not answered:
        raise LoadError("the server answered no requests while it was looked at")
    return Profiled(requests, took, threads, hot, held, {name: count / answered for name, count in calls.items()})


def _wait_for_load(server: LocalServer) -> None:
    """Wait until the load program has begun. Raises LoadError."""
    give_up_at = time.monotonic() + BEGIN_SECONDS
    while not requests_of(server):
        if time.monotonic() > give_up_at:
            raise LoadError(f"no request came in {BEGIN_SECONDS} s")
        time.sleep(0.05)
    time.sleep(WARM_UP_SECONDS)


def _watch(server: LocalServer, way: Way | None, seconds: int) -> Held | None:
    """Watch the interpreter lock for so long, where there is one."""
    if way is not None:
        try:
            with InterpreterLock(server.pid, way.python) as lock:
                return lock.watch(seconds, list(read_times(server.pid)))
        except NoLockError:
            pass  # `lock_note` says why
    time.sleep(seconds)
    return None


def requests_of(server: LocalServer) -> int:
    """Ask a server how many keys it was asked for and how many it was given."""
    found = statistics_of(server)
    return int(found["cmd_get"]) + int(found["cmd_set"])


def profile_all(
    servers: Sequence[tuple[Contender, Way | None]], workloads: Sequence[Workload], seconds: int, tell: Tell
) -> list[Section]:
    """Profile every server under every load."""
    times = Section("µs of a request", TIME_COLUMNS)
    calls, functions = Section("system calls", CALL_COLUMNS), Section("functions that take most", FUNCTION_COLUMNS)
    perf = perf_program()
    for workload in workloads:
        for contender, way in servers:
            tell(f"{workload.name}: {contender.name}")
            found = profile(contender, way, workload, seconds, perf)
            named = (workload.name, contender.name)
            times.rows.append((*named, *found.times()))
            most = sorted(found.calls.items(), key=lambda pair: -pair[1])[:SHOWN]
            calls.rows += [(*named, name, count) for name, count in most]
            functions.rows += [(*named, *row) for row in found.functions()]
    return [times, calls, functions]


def notes_of(seconds: int) -> list[str]:
    """Tell with which tools the figures were taken."""
    notes = [f"{seconds} s of each load"]
    if perf_program():
        notes.append("kernel and user: by the samples of perf (cpu-clock); system calls: counted by perf")
    else:
        notes.append(NO_PERF)
    notes.append("lock held: by reading the interpreter lock from outside, about 1,500 times a second")
    if not SERVER_CORES:
        notes.append("load and server share the only core")
    return notes


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profile",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", type=_workloads, default=[BY_NAME[name] for name in LOADS],
        help=f"some of {', '.join(BY_NAME)} (default {','.join(LOADS)})",
    )  # fmt: skip
    parser.add_argument("--seconds", type=int, default=4, help="how long each load is looked at (default 4)")
    parser.add_argument("--python", action="append", metavar="PATH", help="an interpreter; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown")
    return parser.parse_args(arguments)


def _workloads(text: str) -> list[Workload]:
    unknown = [name for name in text.split(",") if name not in BY_NAME]
    if unknown:
        raise argparse.ArgumentTypeError(f"no load {', '.join(unknown)}; there are {', '.join(BY_NAME)}")
    return [BY_NAME[name] for name in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Profile, print the tables and write the files asked for."""
    options = parse_arguments(arguments)
    console = Console()
    notes = [machine_line(), f"load before: {os.getloadavg()[0]:.1f}", *notes_of(options.seconds)]
    if memcaslap_program() is None and any(workload.needs_memcaslap for workload in options.only):
        notes.append(f"some loads skipped: {NO_MEMCASLAP}")
        options.only = [workload for workload in options.only if not workload.needs_memcaslap]
    try:
        servers: list[tuple[Contender, Way | None]] = [
            (ours(way=way), way) for way in ways_of(options.python or [sys.executable])
        ]
        servers += [(contender, None) for contender in memcached()]
        with console.status("") as status:
            sections = profile_all(servers, options.only, options.seconds, status.update)
    except (LoadError, ServerStartError, OSError) as error:
        print(f"{error}", file=sys.stderr)
        return 1
    for section in sections:
        console.print(section.as_table())
    for note in notes:
        console.print(note, markup=False, highlight=False)
    if options.json:
        options.json.write_text(as_json(sections, notes))
    if options.markdown:
        options.markdown.write_text(as_markdown(sections, notes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
