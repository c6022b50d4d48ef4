"""Tell the service manager how the server is doing, as sd_notify(3) describes."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import TYPE_CHECKING

from memcache_kv.observe.log import Log
from memcache_kv.threads import ServerThread
from memcache_kv.unpatched import socket, threading, time

if TYPE_CHECKING:
    from memcache_kv.server.run import ServerRun
    from memcache_kv.server.worker import Worker

SOCKET_VARIABLE = "NOTIFY_SOCKET"
WATCHDOG_VARIABLE, WATCHDOG_PID_VARIABLE = "WATCHDOG_USEC", "WATCHDOG_PID"
MICROSECONDS = 1_000_000
MOST_DIGITS = 18
"""How many digits of a number of microseconds are read."""
REPORT_SECONDS = 1.0
"""How often the state is looked at, and the progress of a start or a stop is reported."""
EXTENSION_SECONDS = 60
"""How much longer each report of progress lets a start or a stop take."""
REFUSES_WRITES = "refuses writes: the journal can't be written"


class Notifier:
    """The socket of a service manager. Any thread may call any method; none blocks.

    environ: names the socket, unless there is no service manager: then the methods do nothing. The variables are
    removed, so that commands that the server starts do not see them.
    """

    def __init__(self, environ: MutableMapping[str, str], log: Log) -> None:
        address = environ.pop(SOCKET_VARIABLE, "")
        microseconds, pid = environ.pop(WATCHDOG_VARIABLE, ""), environ.pop(WATCHDOG_PID_VARIABLE, "")
        is_ours = pid in ("", str(os.getpid())) and microseconds.isascii() and microseconds.isdigit()
        self.watchdog_seconds = int(microseconds[:MOST_DIGITS]) / MICROSECONDS if address and is_ours else 0.0
        """After this time without `alive`, the service manager ends the server; 0 means never."""
        self._log = log
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address.startswith(("@", "/")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        elif address:
            log.warn(f"the service manager is not notified: {SOCKET_VARIABLE} is {address!r}, which is no unix socket")
        self._reported_at = -REPORT_SECONDS

    @property
    def is_on(self) -> bool:
        """Whether there is a service manager to notify."""
        return self._socket is not None

    def loading(self, done: int, total: int) -> None:
        """Report that a part of the data was loaded, and give the start more time; total is 0 if it is unknown.

        It may be called often: it reports once a second.
        """
        self.progress(f"loading {100 * done // total} %" if total else "loading")

    def progress(self, status: str) -> None:
        """Report that a start or a stop goes on, and give it more time. It may be called often."""
        now = time.monotonic()
        if now - self._reported_at >= REPORT_SECONDS:
            self._reported_at = now
            self._send(f"STATUS={status}", f"EXTEND_TIMEOUT_USEC={EXTENSION_SECONDS * MICROSECONDS}")

    def ready(self, status: str) -> None:
        """Report that the server serves, after its start or after it has read its files again."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Report that the server reads its files again. `ready` must follow."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}", "STATUS=reading the files again")

    def status(self, status: str) -> None:
        """Report a change of the state, in words."""
        self._send(f"STATUS={status}")

    def stopping(self) -> None:
        """Report that the server stops."""
        self._send("STOPPING=1", "STATUS=stopping")

    def alive(self) -> None:
        """Keep the watchdog from ending the server."""
        if self.watchdog_seconds:
            self._send("WATCHDOG=1")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()

    def _send(self, *lines: str) -> None:
        """Send assignments. If that fails, log it and go on."""
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(errors="backslashreplace"), self._address)
        except OSError as error:
            self._log.failure_rarely("can't notify the service manager", error)


class Supervision(ServerThread):
    """The thread that reports the state of a running server, and keeps the watchdog quiet while its workers take turns.

    An idle worker begins a turn when it is woken. If one has begun none since the last look, it is stuck, and so are
    its clients: the watchdog is left to end the server.

    Without a service manager no thread is started, and nothing is reported.
    """

    def __init__(self, notifier: Notifier, server: ServerRun) -> None:
        super().__init__("supervision")
        self._notifier = notifier
        self._server = server
        self._end = threading.Event()
        self._looking = threading.Lock()
        """Held during a look, which wakes workers: a stop closes what wakes them."""
        self._is_stopping = False
        self._turns: dict[Worker, float] = {}
        """When each worker's last turn had begun, as seen by the last look."""
        self._status = ""

    def begin(self) -> None:
        """Report that the server serves, and start the thread."""
        self.loaded()
        if self._notifier.is_on:
            self.on_fault = self._server.fail
            self.start()

    def loaded(self) -> None:
        """Report that the server serves, also after `Notifier.reloading`."""
        self._status = self._present_status()
        self._notifier.ready(self._status)

    def stopping(self) -> None:
        """Report that the server stops. The watchdog stays quiet from now on, as workers end.

        Waits for the end of a look. Call it before the server stops.
        """
        with self._looking:
            self._is_stopping = True
        self._notifier.stopping()

    def end(self) -> None:
        """End the thread. Blocks until done."""
        self._end.set()
        if self.is_alive():
            self.join()
        self._notifier.close()

    def work(self) -> None:
        """Look at the server until `end` is called."""
        pause = min(REPORT_SECONDS, self._notifier.watchdog_seconds / 2 or REPORT_SECONDS)
        while not self._end.wait(pause):
            self.look()

    def look(self) -> None:
        """Report once."""
        with self._looking:
            if self._is_stopping:
                self._notifier.alive()
            else:
                self._look_at_workers()

    def _look_at_workers(self) -> None:
        workers = self._server.workers
        if all(worker.turn_began_at != self._turns.get(worker) for worker in workers):
            self._turns = {worker: worker.turn_began_at for worker in workers}
            self._notifier.alive()
        for worker in workers:
            worker.wake()
        status = self._present_status()
        if status != self._status:
            self._status = status
            self._notifier.status(status)

    def _present_status(self) -> str:
        journal = self._server.journal
        if journal is not None and journal.refuses:
            return REFUSES_WRITES
        return f"serving on {', '.join(self._server.addresses)}"
