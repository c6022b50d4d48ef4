"""The tap: a proxy in a thread of its own, between the clients of a test and a server."""

from __future__ import annotations

import contextlib
import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Self

from memcache_kv.api.forks import PARENTS
from memcache_kv.server.poller import READABLE, Poller, WakeUp, new_poller
from memcache_kv.testing.wire.lane import moment
from memcache_kv.testing.wire.link import Link
from memcache_kv.testing.wire.passage import Direction, Rule
from memcache_kv.testing.wire.recent_calls import RecentCalls
from memcache_kv.traffic.conversation import Call
from memcache_kv.unpatched import socket, threading

HOST = "127.0.0.1"
WAITING_CLIENTS = 1024
"""How many connections the system accepts before the tap does."""
ANSWER_SECONDS = 30.0
"""How long a caller waits for the tap's thread, which needs milliseconds; only reached if that is held up."""
SETTLE_SECONDS = 2.0
"""How long `settle` waits for the server at most."""
LONGEST_WAIT_SECONDS = 3600.0
"""The longest wait of the thread while nothing happens."""

_log = logging.getLogger("memcache_kv.testing")


class Tap:
    """Passes on what clients and a server say, and lets rules change it.

    upstream: the server's host and port, which may be changed for later connections. place: the address and port for
    clients; port 0 is any free one. `start` opens the port, which is kept until `stop`; both are called once, and a
    context manager calls them. Any thread may call any method; each blocks until it is done, which takes milliseconds.

    Without rules, all bytes pass as they come, in both directions, whatever they are. While there are rules for a
    direction, requests or replies go on when they are whole. The tap's own clock is no clock that a test can change.
    """

    def __init__(self, upstream: tuple[str, int], place: tuple[str, int] = (HOST, 0)) -> None:
        self.upstream = upstream
        self._asked_place = place
        self.address = place
        """The host and the port for clients, known after `start`; in a forked child as well, as the parent goes on."""
        self.listeners: list[Callable[[Call], None]] = []
        """Called on the tap's thread with each call that is over. They must not block; what they raise is logged."""
        self._rules: dict[Direction, tuple[Rule, ...]] = dict.fromkeys(Direction, ())
        self.poller: Poller
        self._recent = RecentCalls()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._links: set[Link] = set()
        self.waiting: set[Link] = set()
        self._count = 0
        self._tasks: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._lock = threading.Lock()
        """Held while a task is added, and while the thread stops to carry them out."""
        self._is_running = False
        self._wake: WakeUp
        self._thread: threading.Thread
        self._place: socket.socket
        """Bound to the port, and never listening: it keeps the port while connections are refused."""
        self._listener: socket.socket | None = None
        self._refusals = 0
        """How many have asked that connections are refused."""

    @property
    def calls(self) -> list[Call]:
        """The last calls, the oldest first: 500 at most, and 4 MiB."""
        return self._recent.all()

    def clear_calls(self) -> None:
        """Forget the calls so far."""
        self._recent.clear()

    def start(self) -> Self:
        """Listen, and start the thread. Raises OSError if the port, or every one, is taken."""
        _make_sure_it_is_free(self._asked_place)
        self._place = _bound_to(self._asked_place)
        host, port, *_ = self._place.getsockname()
        self.address = host, port
        self.poller = new_poller()
        self._wake = WakeUp(self.poller)
        self._handlers[self._wake.fd] = lambda events: self._wake.clear()
        self._listen()
        self._is_running = True
        PARENTS.add(self)
        self._thread = threading.Thread(target=self._run, name="tap", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close all connections and end the thread. Does nothing if that was done."""
        with self._lock:
            was_running, self._is_running = self._is_running, False
            if was_running:
                self._wake.set()
        if was_running:
            self._thread.join()
            PARENTS.discard(self)

    def forget(self) -> None:
        """Close what a forked child has inherited. For the child alone: the parent's tap goes on."""
        self._lock = threading.Lock()
        if self._is_running:
            self._is_running = False
            for link in self._links:
                link.forget()
            self._close_own()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # For faults

    def begin(self, rule: Rule) -> None:
        """Have a rule meet all requests, or replies, that come from now on, after the rules that are in force."""
        direction = rule.direction
        if direction is not None:
            self._do(lambda: self._rules.update({direction: (*self._rules[direction], rule)}))

    def end(self, rule: Rule) -> None:
        """End a rule, and send on at once what it holds back."""

        def end() -> None:
            rule.is_over = True
            if rule.direction is not None:
                left = (each for each in self._rules[rule.direction] if each is not rule)
                self._rules[rule.direction] = tuple(left)
            for link in list(self._links):
                link.release()

        self._do(end)

    def close_connections(self, is_reset: bool = False) -> None:
        """Close all connections of clients. is_reset: whether these get a reset."""

        def close() -> None:
            for link in list(self._links):
                link.close(is_reset)

        self._do(close)

    def refuse(self) -> None:
        """Refuse new connections until `accept` is called as often."""

        def refuse() -> None:
            self._refusals += 1
            if self._listener is not None:
                self.unwatch(self._listener.fileno())
                self._listener.close()
                self._listener = None

        self._do(refuse)

    def accept(self) -> None:
        """Accept connections again, unless somebody else has asked that they are refused."""

        def accept() -> None:
            self._refusals -= 1
            if not self._refusals:
                self._listen()

        self._do(accept)

    def settle(self) -> None:
        """Block until the server has carried out all that clients have sent so far, also without a reply.

        While a rule is in force, or where a server takes longer than SETTLE_SECONDS, only what has come is passed on.
        """
        settled = threading.Event()
        left: set[Link] = set()

        def begin() -> None:
            if self._listener is not None:
                self._accept_all(READABLE)
            left.update(self._links)
            for link in list(left):
                link.settle(partial(done, link))
            if not left:
                settled.set()

        def done(link: Link) -> None:
            left.discard(link)
            if not left:
                settled.set()

        self._do(begin)
        if left and not any(self._rules.values()):
            settled.wait(SETTLE_SECONDS)

    # For links

    @property
    def rules(self) -> Mapping[Direction, Sequence[Rule]]:
        """The rules that are in force for each direction, in the order in which they began."""
        return self._rules

    def watch(self, fd: int, handler: Callable[[int], None], events: int) -> None:
        """Have a function called with the events of a descriptor."""
        self._handlers[fd] = handler
        self.poller.register(fd, events)

    def unwatch(self, fd: int) -> None:
        """Watch a descriptor no longer."""
        del self._handlers[fd]
        self.poller.unregister(fd)

    def report(self, call: Call) -> None:
        """Tell the listeners about a call."""
        self._recent.add(call)
        for listener in self.listeners:
            try:
                listener(call)
            except Exception:
                _log.exception("a listener of the tap failed")

    def closed(self, link: Link) -> None:
        """Note that a link is closed."""
        self._links.discard(link)
        self.waiting.discard(link)

    # The thread

    def _do(self, task: Callable[[], None]) -> None:
        """Have the thread do something, and wait until it is done. After `stop` nothing is done."""
        if threading.current_thread() is self._thread:
            task()
            return
        done: Future[None] = Future()
        with self._lock:
            if not self._is_running:
                return
            self._tasks.append((task, done))
            self._wake.set()
        done.result(ANSWER_SECONDS)

    def _run(self) -> None:
        try:
            while self._is_running:
                for fd, events in self.poller.poll(self._seconds_until_due()):
                    handler = self._handlers.get(fd)
                    if handler is not None:
                        handler(events)
                self._do_tasks()
                self._send_what_is_due()
        finally:
            self._close()

    def _seconds_until_due(self) -> float:
        due = min((link.due_at for link in self.waiting), default=math.inf)
        return min(max(0.0, due - moment()), LONGEST_WAIT_SECONDS)

    def _do_tasks(self) -> None:
        while self._tasks:
            task, done = self._tasks.popleft()
            try:
                task()
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(None)

    def _send_what_is_due(self) -> None:
        now = moment()
        for link in [link for link in self.waiting if link.due_at <= now]:
            link.go_on()

    def _close(self) -> None:
        with self._lock:
            self._is_running = False
        self._do_tasks()
        for link in list(self._links):
            link.close()
        self._close_own()

    def _close_own(self) -> None:
        for sock in (self._listener, self._place):
            if sock is not None:
                sock.close()
        self.poller.close()
        self._wake.close()

    # Connections

    def _listen(self) -> None:
        self._listener = _bound_to(self.address)
        self._listener.setblocking(False)
        self._listener.listen(WAITING_CLIENTS)
        self.watch(self._listener.fileno(), self._accept_all, READABLE)

    def _accept_all(self, events: int) -> None:
        while self._listener is not None:
            try:
                client, _ = self._listener.accept()
            except OSError:  # all are accepted, or the client has gone, or there are too many descriptors
                return
            self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        server = socket.socket(_family_of(self.upstream))
        server.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            try:
                server.connect(self.upstream)
            except BlockingIOError:
                raise
            except OSError:
                client.close()
                server.close()
                return
        self._count += 1
        self._links.add(Link(self._count, client, server, self))


def _bound_to(address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(_family_of(address))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _make_sure_it_is_free(address: tuple[str, int]) -> None:
    """Raise OSError if anybody uses a port, also somebody who would share it, as `_bound_to` would."""
    with socket.socket(_family_of(address)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def _family_of(address: tuple[str, int]) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET
