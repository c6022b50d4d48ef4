"""Login throttling: how long replies are held back, and whose."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from memcache_kv.auth import users as users_module
from memcache_kv.auth.users import FAILURES_LIMIT, Logins, Users
from memcache_kv.protocol import TextProtocol
from memcache_kv.server import throttle as throttle_module
from memcache_kv.server.connection import Connection
from memcache_kv.server.throttle import LoginThrottle
from tests.protocol.context_factory import Surroundings
from tests.server.test_connection_states import StandingTime

DELAY_SECONDS = 5.0
TIMEOUT_SECONDS = 10


class Guarded:
    """A connection that has to log in, at a time that the test moves."""

    def __init__(self, users: Users | None) -> None:
        self.around = Surroundings()
        self.woken = threading.Event()
        self.ours, self.theirs = socket.socketpair()
        self.connection = Connection(self.ours, TextProtocol(self.around.context, self.ours.fileno()), 0)
        by_fd = {self.connection.fd: self.connection}
        self.throttle = LoginThrottle(
            None if users is None else Logins(users), self.around.context.log, by_fd, self.wake, TIMEOUT_SECONDS
        )

    def wake(self) -> None:
        self.woken.set()

    def log_in(self, password: bytes) -> bool | None:
        attempts = self.throttle.attempts(self.ours)
        assert attempts is not None
        return attempts.is_known(b"ann", password)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> StandingTime:
    made = StandingTime()
    monkeypatch.setattr(throttle_module, "time", made)
    monkeypatch.setattr(users_module, "UNDELAYED_FAILURES", -20)
    monkeypatch.setattr(users_module, "LONGEST_DELAY_SECONDS", DELAY_SECONDS)
    return made


@pytest.fixture
def guarded(tmp_path: Path, time: StandingTime) -> Iterator[Guarded]:
    path = tmp_path / "users"
    path.write_bytes(b"ann:x\n")
    made = Guarded(Users(path))
    yield made
    made.close()


def test_nobody_is_asked_for_a_login_where_there_are_no_users(time: StandingTime) -> None:
    made = Guarded(None)
    assert made.throttle.attempts(made.ours) is None
    made.close()


def test_a_login_that_succeeds_holds_nothing_back(guarded: Guarded) -> None:
    assert guarded.log_in(b"x")
    assert not guarded.throttle.holds(guarded.connection)


def test_a_failed_login_holds_the_replies_back_for_its_delay(guarded: Guarded, time: StandingTime) -> None:
    assert not guarded.log_in(b"y")
    time.now += DELAY_SECONDS - 1
    assert guarded.throttle.holds(guarded.connection)
    assert guarded.throttle.due([guarded.connection]) == []
    time.now += 1
    assert guarded.throttle.due([guarded.connection]) == [guarded.connection]
    assert guarded.connection.held_until == 0


def test_the_delays_of_several_add_up(guarded: Guarded, time: StandingTime) -> None:
    for _ in range(3):
        guarded.log_in(b"y")
    time.now += 3 * DELAY_SECONDS - 1
    assert guarded.throttle.holds(guarded.connection)
    time.now += 1
    assert not guarded.throttle.holds(guarded.connection)


def test_a_delay_that_is_over_does_not_count_towards_the_next(guarded: Guarded, time: StandingTime) -> None:
    guarded.log_in(b"y")
    time.now += 100 * DELAY_SECONDS
    guarded.log_in(b"y")
    assert guarded.connection.held_until == time.now + DELAY_SECONDS


def test_too_many_have_the_connection_closed_after_the_last_reply(guarded: Guarded) -> None:
    attempts = guarded.throttle.attempts(guarded.ours)
    assert attempts is not None
    for count in range(FAILURES_LIMIT):
        assert not guarded.connection.protocol.closing, count
        attempts.is_known(b"ann", b"y")
    assert guarded.connection.protocol.closing
