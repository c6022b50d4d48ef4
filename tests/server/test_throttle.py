"""Login throttling: how long replies are held back, and whose."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from memcache_kv.auth import users as users_module
from memcache_kv.auth.users import FAILURES_LIMIT, Logins, Users
from memcache_kv.protocol import TextProtocol
from memcache_kv.server import throttle as throttle_module
from memcache_kv.server.addresses import AddressLimits
from memcache_kv.server.connection import Connection
from memcache_kv.server.throttle import LoginThrottle
from tests.program import PATIENCE_SECONDS
from tests.protocol.context_factory import Surroundings
from tests.server.test_connection_states import StandingTime

DELAY_SECONDS = 5.0
TIMEOUT_SECONDS = 10


class Guarded:
    """A connection that has to log in, at a time that the test moves."""

    def __init__(self, users: Users | None) -> None:
        self.around = Surroundings()
        self.woken = threading.Event()
        self.addresses = AddressLimits(4, 0, has_half_open=True)
        self.ours, self.theirs = socket.socketpair()
        self.connection = Connection(self.ours, TextProtocol(self.around.context, self.ours.fileno()), 0)
        by_fd = {self.connection.fd: self.connection}
        self.throttle = LoginThrottle(
            None if users is None else Logins(users),
            self.around.context.log,
            by_fd,
            self.wake,
            self.addresses,
            TIMEOUT_SECONDS,
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


# Those who do not log in


def test_who_does_not_log_in_in_time_is_overdue(guarded: Guarded, time: StandingTime) -> None:
    guarded.throttle.attempts(guarded.ours)
    time.now += TIMEOUT_SECONDS - 1
    assert guarded.throttle.overdue() == []
    time.now += 1
    assert guarded.throttle.overdue() == [guarded.connection]


@pytest.mark.parametrize("how", ["logged in", "closed"])
def test_who_has_logged_in_or_is_gone_is_never_overdue(guarded: Guarded, time: StandingTime, how: str) -> None:
    if how == "logged in":
        assert guarded.log_in(b"x")
    else:
        guarded.throttle.attempts(guarded.ours)
        guarded.throttle.closed(guarded.connection.fd)
    time.now += 100 * TIMEOUT_SECONDS
    assert guarded.throttle.overdue() == []


def test_the_time_for_which_a_failed_login_is_held_back_does_not_count(guarded: Guarded, time: StandingTime) -> None:
    guarded.log_in(b"y")
    time.now += TIMEOUT_SECONDS + DELAY_SECONDS - 1
    assert guarded.throttle.overdue() == []
    time.now += 1
    assert guarded.throttle.overdue() == [guarded.connection]


def test_a_check_holds_the_replies_back_until_it_is_over(
    tmp_path: Path, time: StandingTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, path = threading.Event(), tmp_path / "users"
    path.write_bytes(b"ann:" + bcrypt.hashpw(b"x", bcrypt.gensalt(4)) + b"\n")
    users = Users(path)
    monkeypatch.setattr(users, "is_known", lambda name, password: go.wait(PATIENCE_SECONDS))
    made = Guarded(users)
    assert made.log_in(b"x") is None
    time.now += 100 * TIMEOUT_SECONDS
    assert made.throttle.holds(made.connection)
    assert made.throttle.overdue() == [], "it is the server that takes so long"
    assert not made.connection.protocol.paused
    go.set()
    assert made.woken.wait(PATIENCE_SECONDS)
    assert made.throttle.due([made.connection]) == [made.connection]
    assert made.connection.protocol.paused, "it goes on with the outcome"
    made.close()
