"""Checks of password hashes, on a thread of their own, as each takes up to a tenth of a second."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from memcache_kv.threads import ServerThread
from memcache_kv.unpatched import threading, time

PENDING_LIMIT = 1024
"""The most checks that wait. A login beyond it fails without a check."""
PENDING_OF_FAILED_LIMIT = 16
"""The most checks that wait for one address whose logins failed lately."""
FIRST_TRIES_IN_A_ROW = 3
"""After so many checks for addresses that did not fail, one for an address that did has its turn."""
HASH_CHECKS_LIMIT, HASH_CHECKS_SECONDS = 8, 4.0
"""The number of checks in this time for all addresses whose logins failed lately: a fifth of a core at most."""


class HashCheck:
    """A password whose check waits, or is over.

    wake: called by the thread of the checks once there is a verdict.
    """

    __slots__ = ("name", "password", "verdict", "wake")

    def __init__(self, name: bytes, password: bytes, wake: Callable[[], None]) -> None:
        self.name = name
        self.password = password
        self.wake = wake
        self.verdict: bool | None = None
        """Whether the password is the user's; None before the check."""


class HashChecks:
    """The checks that wait, and the thread that makes them one after the other. It starts with the first check.

    check: returns whether there is a user with this name and password, and takes long.

    Each address has its turn, one check at a time, so that many attempts from one address do not keep others waiting.
    Addresses whose logins did not fail lately come first. Any thread may call `submit`.
    """

    def __init__(self, check: Callable[[bytes, bytes], bool]) -> None:
        self._check = check
        self._first_tries: dict[str, deque[HashCheck]] = {}
        """By address, those of addresses without failures. The address whose turn is next comes first."""
        self._further_tries: dict[str, deque[HashCheck]] = {}
        """The same of addresses that failed lately."""
        self._pending = 0
        self._in_a_row = 0
        self._times: deque[float] = deque(maxlen=HASH_CHECKS_LIMIT)
        """When the latest checks for addresses that failed were made."""
        self._is_stopping = False
        self._changed = threading.Condition()
        self.thread = ServerThread("logins", self._serve)

    def submit(self, check: HashCheck, address: str, has_failed: bool) -> bool:
        """Queue a check for an address, and return at once. Return False if too many wait.

        has_failed: whether logins from this address failed lately.
        """
        queues = self._further_tries if has_failed else self._first_tries
        with self._changed:
            waiting = queues.get(address, ())
            if self._pending >= PENDING_LIMIT or (has_failed and len(waiting) >= PENDING_OF_FAILED_LIMIT):
                return False
            queues.setdefault(address, deque()).append(check)
            self._pending += 1
            if self._pending == 1 and self.thread.ident is None:
                self.thread.start()
            self._changed.notify()
        return True

    def stop(self) -> None:
        """End the thread after the present check. Blocks until done."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        if self.thread.ident is not None:
            self.thread.join()

    def _serve(self) -> None:
        while (check := self._next()) is not None:
            check.verdict = self._check(check.name, check.password)
            check.wake()

    def _next(self) -> HashCheck | None:
        """Wait for the next check. Return None to end the thread."""
        with self._changed:
            while not self._is_stopping:
                seconds = self._seconds_to_wait()
                if self._further_tries and seconds == 0 and not self._first_tries_come_first():
                    self._in_a_row = 0
                    self._times.append(time.monotonic())
                    return self._take(self._further_tries)
                if self._first_tries:
                    self._in_a_row += 1
                    return self._take(self._first_tries)
                self._changed.wait(seconds if self._further_tries else None)
        return None

    def _first_tries_come_first(self) -> bool:
        return bool(self._first_tries) and self._in_a_row < FIRST_TRIES_IN_A_ROW

    def _seconds_to_wait(self) -> float:
        """Return how long no check for an address that failed may be made; 0 if one may be made now."""
        if len(self._times) < HASH_CHECKS_LIMIT:
            return 0.0
        return max(self._times[0] + HASH_CHECKS_SECONDS - time.monotonic(), 0.0)

    def _take(self, queues: dict[str, deque[HashCheck]]) -> HashCheck:
        """Remove and return the next check, and move its address behind the others."""
        address = next(iter(queues))
        waiting = queues.pop(address)
        check = waiting.popleft()
        if waiting:
            queues[address] = waiting
        self._pending -= 1
        return check
