"""The queue of hash checks: whose turn it is, how many wait, and that a thread makes them."""

import threading

import pytest

from memcache_kv.auth import checks as checks_module
from memcache_kv.auth.checks import FIRST_TRIES_IN_A_ROW, HASH_CHECKS_LIMIT, HASH_CHECKS_SECONDS, HashCheck, HashChecks
from tests.program import PATIENCE_SECONDS

STRANGER, OTHER, FAILED = "10.0.0.1", "10.0.0.2", "10.0.0.3"


class Bench:
    """Checks that wait until the test lets the thread begin, and the order in which they were made.

    The password is right if it is `right`. The first check, which keeps the thread busy meanwhile, is not in the order.
    """

    def __init__(self) -> None:
        self.order: list[bytes] = []
        self.threads: set[int] = set()
        self._woken = threading.Semaphore(0)
        self._begun, self._go = threading.Event(), threading.Event()
        self.checks = HashChecks(self._check)
        assert self.submit(b"", OTHER)
        assert self._begun.wait(PATIENCE_SECONDS)

    def submit(self, name: bytes, address: str, has_failed: bool = False) -> bool:
        self.last = HashCheck(name, b"right", self._wake)
        return self.checks.submit(self.last, address, has_failed)

    def run(self, count: int) -> list[bytes]:
        """Let the thread make so many checks; return their names in order."""
        self._go.set()
        for _ in range(count):
            assert self._woken.acquire(timeout=PATIENCE_SECONDS)
        return self.order

    def close(self) -> None:
        self._go.set()
        self.checks.stop()

    def _wake(self) -> None:
        if self.order:
            self._woken.release()

    def _check(self, name: bytes, password: bytes) -> bool:
        self.threads.add(threading.get_ident())
        self._begun.set()
        assert self._go.wait(PATIENCE_SECONDS)
        if name:
            self.order.append(name)
        return password == b"right"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench()


def test_a_thread_makes_the_checks_and_the_submitter_does_not_wait(bench: Bench) -> None:
    assert bench.submit(b"ann", STRANGER)
    assert bench.last.verdict is None
    assert bench.run(1) == [b"ann"]
    assert bench.last.verdict is True
    assert threading.get_ident() not in bench.threads
    bench.close()


def test_one_address_with_many_attempts_keeps_others_waiting_for_one(bench: Bench) -> None:
    for number in range(8):
        assert bench.submit(b"stranger %d" % number, STRANGER)
    assert bench.submit(b"right", "10.0.0.9")
    assert bench.run(9)[:3] == [b"stranger 0", b"right", b"stranger 1"]
    bench.close()


def test_addresses_without_failures_come_first_and_the_others_are_not_forgotten(bench: Bench) -> None:
    for number in range(2):
        assert bench.submit(b"failed %d" % number, FAILED, has_failed=True)
    for number in range(2 * FIRST_TRIES_IN_A_ROW):
        assert bench.submit(b"first %d" % number, STRANGER)
    order = bench.run(2 + 2 * FIRST_TRIES_IN_A_ROW)
    # The check that kept the thread busy counts as the first in a row.
    assert order.index(b"failed 0") == FIRST_TRIES_IN_A_ROW - 1
    assert order.index(b"failed 1") == 2 * FIRST_TRIES_IN_A_ROW
    bench.close()


def test_checks_for_addresses_that_failed_are_rare_however_many_wait(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks_module, "HASH_CHECKS_SECONDS", 1000 * HASH_CHECKS_SECONDS)
    for number in range(2 * HASH_CHECKS_LIMIT):
        assert bench.submit(b"failed", f"10.0.1.{number}", has_failed=True)
    assert len(bench.run(HASH_CHECKS_LIMIT)) == HASH_CHECKS_LIMIT
    assert bench.submit(b"right", STRANGER)
    bench.run(1)
    assert bench.order == [b"failed"] * HASH_CHECKS_LIMIT + [b"right"]
    bench.close()


def test_the_queue_is_bounded_in_all_and_for_each_address_that_failed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks_module, "PENDING_LIMIT", 5)
    monkeypatch.setattr(checks_module, "PENDING_OF_FAILED_LIMIT", 2)
    assert [bench.submit(b"failed", FAILED, has_failed=True) for _ in range(3)] == [True, True, False]
    assert [bench.submit(b"first", STRANGER) for _ in range(4)] == [True, True, True, False]
    bench.close()


def test_a_thread_that_never_began_ends_at_once() -> None:
    HashChecks(lambda name, password: False).stop()
