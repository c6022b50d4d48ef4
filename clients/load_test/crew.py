"""The processes of the load, seen from the first one: it starts them, gives orders and gathers what they count."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from types import TracebackType
from typing import Self

from clients.load_test.load import Load, Round
from clients.load_test.loop import NANOSECONDS, clock
from clients.load_test.measurement import Measurement
from clients.load_test.worker import Counted, Done, Failed, Ready, Stored, work

GRACE_SECONDS = 0.1
"""The time between the order to begin and the beginning."""
JOIN_SECONDS = 10.0


class LoadError(Exception):
    """The load can't be carried out; the message says why."""


class Crew:
    """The processes of one load; as a context manager, they never outlive the block."""

    def __init__(self, load: Load) -> None:
        """Start them."""
        self._load = load
        self._pipes: list[Pipe] = []
        self._processes = []
        context = multiprocessing.get_context("spawn")
        for index in range(load.processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(load, index, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Self:
        """Return the crew."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(JOIN_SECONDS if kind is None else 0)
            if process.is_alive():
                process.kill()
                process.join()

    def store(self, show: Callable[[int], None]) -> None:
        """Store all keys; call show with the number of stored ones. Raises LoadError."""
        stored: dict[Pipe, int] = {}
        self._order("store")
        waiting = set(self._pipes)
        while waiting:
            for pipe, message in self._messages(waiting):
                if isinstance(message, Stored):
                    stored[pipe] = message.keys
                    show(sum(stored.values()))
                elif isinstance(message, Ready):
                    waiting.discard(pipe)

    def measure(self, connections: int, show: Callable[[Measurement], None]) -> Measurement:
        """Carry out one round; call show with what is measured so far. Ctrl-C ends it early. Raises LoadError."""
        measurement = Measurement(connections, self._load.processes)
        self._order(connections)
        waiting = set(self._pipes)
        while waiting:
            waiting -= {pipe for pipe, _ in self._messages(waiting)}
        self._order(Round(connections, clock() + int(GRACE_SECONDS * NANOSECONDS)))
        waiting = set(self._pipes)
        while waiting:
            try:
                self._gather(waiting, measurement, show)
            except KeyboardInterrupt:
                if measurement.interrupted:
                    raise
                measurement.interrupted = True
                self._order("stop")
        measurement.settle()
        return measurement

    def _gather(self, waiting: set[Pipe], measurement: Measurement, show: Callable[[Measurement], None]) -> None:
        """Add what the processes report until all are done."""
        while waiting:
            for pipe, message in self._messages(waiting):
                if isinstance(message, Counted):
                    measurement.add(message.index, message.end, message.span, message.tally)
                    show(measurement)
                elif isinstance(message, Done):
                    measurement.finish(message.elapsed, message.cpu_seconds)
                    waiting.discard(pipe)

    def _order(self, order: object) -> None:
        for pipe in self._pipes:
            try:
                pipe.send(order)
            except OSError:
                raise LoadError(self._last_words(pipe)) from None

    def _messages(self, pipes: set[Pipe]) -> list[tuple[Pipe, object]]:
        """Wait for messages of the processes; raise LoadError when one has failed."""
        arrived = wait(list(pipes))
        return [(pipe, self._message(pipe)) for pipe in pipes if pipe in arrived]

    def _message(self, pipe: Pipe) -> object:
        try:
            message = pipe.recv()
        except EOFError:
            raise LoadError("a process of the load ended; look above for the reason") from None
        if isinstance(message, Failed):
            raise LoadError(message.message)
        return message

    def _last_words(self, pipe: Pipe) -> str:
        """Return what a process said before it ended."""
        try:
            while pipe.poll():
                if isinstance(message := pipe.recv(), Failed):
                    return message.message
        except EOFError:
            pass
        return "a process of the load ended; look above for the reason"
