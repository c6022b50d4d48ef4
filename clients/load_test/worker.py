"""One process of the load: it stores the keys that it is to store, and carries out rounds."""

from __future__ import annotations

import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

from clients.address import reason_of
from clients.load_test.closed_loop import ENDLESS, ClosedLoop, deadline_after
from clients.load_test.connection import Connection
from clients.load_test.keys import Mix, random_value, weights_of
from clients.load_test.load import Load, Round, share
from clients.load_test.loop import TICK, Loop, clock
from clients.load_test.open_loop import OpenLoop
from clients.load_test.store import StoreError, store_all
from clients.load_test.tally import Tally
from clients.load_test.wires.wire import BadReply
from clients.rows import value_of

DESCRIPTORS_BESIDE = 50
"""The descriptors that a process needs besides its connections."""


@dataclass(frozen=True)
class Stored:
    """Reports how many keys the process has stored so far."""

    keys: int


@dataclass(frozen=True)
class Ready:
    """Reports that the process waits for a round, with all its connections open."""


@dataclass(frozen=True)
class Counted:
    """Reports what was counted in one tick: its number, when it ended (ns after the start), how long it was (ns)."""

    index: int
    end: int
    span: int
    tally: Tally


@dataclass(frozen=True)
class Done:
    """Reports that a round is over: how long it took up to the last reply (ns), and the processor time of that (s)."""

    elapsed: int
    cpu_seconds: float


@dataclass(frozen=True)
class Failed:
    """Reports why the process ends."""

    message: str


class Worker:
    """Carries out the orders that arrive by a pipe: "store", "stop", or a round."""

    def __init__(self, load: Load, index: int, pipe: Pipe) -> None:
        """Make the keys. index: which of the processes this is."""
        self._load = load
        self._index = index
        self._pipe = pipe
        self._wire = load.wire()
        self._keys = load.make_keys()
        self._value = random_value(load.value_size)
        weights = weights_of(load.key_distribution, len(self._keys))
        self._mix = Mix(self._wire, self._keys, weights, self._value, load.ratio)

    def store(self) -> None:
        """Store this process's part of the keys."""
        mine = self._keys[self._index :: self._load.processes]
        values: Callable[[bytes], bytes] = self._row_value if self._load.users else lambda key: self._value
        rows = ((key, values(key)) for key in mine)
        for stored in store_all(self._wire, self._load.address, rows):
            self._pipe.send(Stored(stored))

    @staticmethod
    def _row_value(key: bytes) -> bytes:
        return value_of(key.decode())

    def carry_out(self, connections: int) -> None:
        """Open this process's part of the connections, wait for the start, and measure."""
        mine = share(connections, self._index, self._load.processes)
        endless = self._load.duration is not None
        target = (self._load.address.host, self._load.address.port)
        opened = [Connection(target, ENDLESS if endless else self._load.requests) for _ in range(mine)]
        self._pipe.send(Ready())
        round_ = self._pipe.recv()
        if isinstance(round_, Round):
            self._measure(round_, opened)
        for connection in opened:
            connection.socket.close()

    def _measure(self, round_: Round, opened: list[Connection]) -> None:
        """Run the loop from the start of a round, and report what it counts."""
        begun = 0

        def report(tally: Tally) -> bool:
            nonlocal begun
            end = clock() - round_.start
            self._pipe.send(Counted(begun // TICK, end, end - begun, tally))
            begun = end
            return not (self._pipe.poll() and self._pipe.recv() == "stop")

        requests = self._mix.requests(random.Random(f"{self._index} {round_.connections}").getrandbits(32))
        loop = self._loop(round_, opened, requests, report)
        time.sleep(max(0, round_.start - clock()) / 1e9)
        before = time.process_time()
        loop.run()
        last = max((connection.waiting_since for connection in opened), default=round_.start)
        self._pipe.send(Done(last - round_.start, time.process_time() - before))

    def _loop(
        self,
        round_: Round,
        opened: list[Connection],
        requests: Iterator[tuple[bytes, bool]],
        report: Callable[[Tally], bool],
    ) -> Loop:
        """Return the loop that the load asks for."""
        load = self._load
        if load.rate is None:
            closed = ClosedLoop(self._wire, requests, opened, load.pipeline, report)
            if load.duration is not None:
                closed.deadline = deadline_after(round_.start, load.duration)
            return closed
        total = int(load.rate * load.duration) if load.duration else load.requests * round_.connections
        first_due = round_.start + int(self._index * 1e9 / load.rate)
        mine = share(total, self._index, load.processes)
        return OpenLoop(
            self._wire, requests, opened, load.pipeline, report, load.rate / load.processes, mine, first_due
        )


def allow_descriptors(count: int) -> None:
    """Raise the process's limit of open files so far as is needed; raise OSError if it can't be raised so far."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + DESCRIPTORS_BESIDE
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise OSError(f"{count} connections need {needed} open files and {hard} are allowed; raise ulimit -n")
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def work(load: Load, index: int, pipe: Pipe) -> None:
    """Carry out orders until the first process wants no more; report what prevents that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        allow_descriptors(share(max((load.connections, *load.users)), index, load.processes))
        worker = Worker(load, index, pipe)
        while (order := pipe.recv()) != "end":
            if order == "store":
                worker.store()
                pipe.send(Ready())
            elif isinstance(order, int):
                worker.carry_out(order)
    except EOFError:
        pass
    except (OSError, StoreError, BadReply) as error:
        pipe.send(Failed(reason_of(error)))
