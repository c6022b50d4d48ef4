"""Passwords in clear and hashed, the cost of checking hashes, and the delays after failed logins."""

import sys
import threading
from pathlib import Path

import bcrypt
import pytest

from memcache_kv.auth import checks as checks_module
from memcache_kv.auth import users as users_module
from memcache_kv.auth.users import (
    ADDRESSES_LIMIT,
    FAILURES_LIMIT,
    LONGEST_DELAY_SECONDS,
    UNDELAYED_FAILURES,
    FailedLogins,
    LoginAttempts,
    Logins,
    Users,
    client_network,
    delay_seconds,
)
from memcache_kv.errors import ConfigError
from tests.program import PATIENCE_SECONDS


def hashed(password: bytes, cost: int = 4) -> bytes:
    return bcrypt.hashpw(password, bcrypt.gensalt(cost))


class CountedChecks:
    """Count the calls of bcrypt's check."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        check = bcrypt.checkpw

        def checkpw(password: bytes, stored: bytes) -> bool:
            self.count += 1
            return check(password, stored)

        monkeypatch.setattr(bcrypt, "checkpw", checkpw)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> CountedChecks:
    return CountedChecks(monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_bytes(b"ann:" + hashed(b"s3cret") + b"\nbob:" + hashed(b"other") + b"\ncarl:clear\n")
    return path


class Seconds:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    clock = Seconds()
    monkeypatch.setattr("memcache_kv.auth.users.time.monotonic", clock)
    return clock


# Reading the file again


def test_an_empty_file_leaves_the_old_users_as_it_may_be_about_to_be_written(file: Path) -> None:
    users = Users(file)
    text = file.read_bytes()
    file.write_bytes(b"")
    with pytest.raises(ConfigError, match="users\\] is empty"):
        users.reload()
    assert users.is_known(b"carl", b"clear")
    file.write_bytes(text.replace(b"carl:clear", b"carl:new"))
    users.reload()
    assert users.is_known(b"carl", b"new")


def test_a_start_with_an_empty_file_knows_nobody_until_it_is_filled(file: Path) -> None:
    file.write_bytes(b"")
    users = Users(file)
    assert not users.is_known(b"carl", b"clear")
    users.reload()
    file.write_bytes(b"carl:clear\n")
    users.reload()
    assert users.is_known(b"carl", b"clear")


# Hashes


@pytest.mark.parametrize("prefix", [b"$2b$", b"$2y$", b"$2a$"])
def test_a_hash_of_any_writer_is_checked(tmp_path: Path, prefix: bytes) -> None:
    path = tmp_path / "users"
    path.write_bytes(b"ann:" + hashed(b"s3cret").replace(b"$2b$", prefix) + b"\n")
    users = Users(path)
    assert not users.is_known(b"ann", b"S3cret")
    assert users.is_known(b"ann", b"s3cret")
    assert not users.is_known(b"ann", b"S3cret")


@pytest.mark.parametrize(
    ("name", "password", "known"),
    [
        (b"ann", b"s3cret", True),
        (b"bob", b"other", True),
        (b"carl", b"clear", True),
        (b"ann", b"other", False),
        (b"bob", b"s3cret", False),
        (b"eve", b"s3cret", False),
        (b"carl", b"s3cret", False),
        (b"ann", b"", False),
        (b"ann", b"s3cret\0", False),
        (b"ann", b"s3cret" + b"x" * 100, False),
    ],
)
@pytest.mark.parametrize("learnt_before", [[], [(b"ann", b"s3cret")], [(b"ann", b"s3cret"), (b"bob", b"other")]])
def test_users_are_known_by_their_own_passwords_alone(
    file: Path, name: bytes, password: bytes, known: bool, learnt_before: list[tuple[bytes, bytes]]
) -> None:
    users = Users(file)
    for right in learnt_before:
        assert users.is_known(*right)
    assert users.is_known(name, password) is known
    assert users.is_known(name, password) is known


def test_the_hash_itself_is_no_password(file: Path) -> None:
    stored = file.read_bytes().splitlines()[0].removeprefix(b"ann:")
    assert not Users(file).is_known(b"ann", stored)


def test_a_password_longer_than_the_hash_looks_at_is_not_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_bytes(b"ann:" + hashed(b"x" * 72) + b"\n")
    users = Users(path)
    assert not users.is_known(b"ann", b"x" * 73)
    assert users.is_known(b"ann", b"x" * 72)
    assert not users.is_known(b"ann", b"x" * 73)


def test_a_hash_is_checked_once_and_never_again_for_anybody(file: Path, checks: CountedChecks) -> None:
    users = Users(file)
    assert users.is_known(b"ann", b"s3cret")
    assert users.is_known(b"bob", b"other")
    assert checks.count == 2
    for password in (b"s3cret", b"wrong", b"other"):
        users.is_known(b"ann", password)
        users.is_known(b"nobody", password)
    assert checks.count == 2


@pytest.mark.parametrize("name", [b"ann", b"bob", b"carl", b"nobody"])
def test_a_failed_attempt_costs_one_check_whoever_it_names(file: Path, checks: CountedChecks, name: bytes) -> None:
    users = Users(file)
    assert not users.is_known(name, b"wrong")
    assert checks.count == 1
    assert users.is_known(b"ann", b"s3cret")
    before = checks.count
    assert not users.is_known(name, b"wrong")
    assert checks.count == before + 1


@pytest.mark.parametrize("name", [b"ann", b"bob", b"carl", b"nobody"])
def test_a_comparison_leaves_every_failed_attempt_to_the_hashes_whoever_it_names(
    file: Path, checks: CountedChecks, name: bytes
) -> None:
    users = Users(file)
    assert users.matches(name, b"wrong") is None
    assert users.matches(b"carl", b"clear") is True
    assert users.is_known(b"ann", b"s3cret")
    assert users.matches(name, b"wrong") is None
    assert users.is_known(b"bob", b"other")
    assert users.matches(name, b"wrong") is False
    assert users.matches(b"ann", b"s3cret") is True
    assert checks.count == 2


def test_a_hash_that_would_hold_up_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_bytes(b"ann:" + hashed(b"s3cret").replace(b"$04$", b"$11$") + b"\n")
    with pytest.raises(ConfigError, match="has a hash with the cost 11: use at most 10"):
        Users(path)


def test_hashes_without_their_library_are_refused_with_what_to_install(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    with pytest.raises(ConfigError, match=r"pip install bcrypt, or in a clone pip install '\.\[auth\]'$"):
        Users(file)
    file.write_bytes(b"carl:clear\n")
    assert Users(file).is_known(b"carl", b"clear")


def test_a_file_that_is_read_again_forgets_what_it_had_learnt(file: Path) -> None:
    users = Users(file)
    assert users.is_known(b"ann", b"s3cret")
    file.write_bytes(b"ann:" + hashed(b"new") + b"\n")
    users.reload()
    assert not users.is_known(b"ann", b"s3cret")
    assert users.is_known(b"ann", b"new")


# Failed logins


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(1, 0), (UNDELAYED_FAILURES, 0), (UNDELAYED_FAILURES + 1, 1), (UNDELAYED_FAILURES + 2, 2),
     (UNDELAYED_FAILURES + 3, 4), (UNDELAYED_FAILURES + 5, 16), (UNDELAYED_FAILURES + 6, LONGEST_DELAY_SECONDS),
     (10**9, LONGEST_DELAY_SECONDS)],
)  # fmt: skip
def test_each_failure_waits_longer_than_the_one_before(failures: int, seconds: float) -> None:
    assert delay_seconds(failures) == seconds


def test_failures_are_counted_by_address_and_forgotten(clock: Seconds) -> None:
    failed_logins = FailedLogins()
    assert [failed_logins.add("a"), failed_logins.add("b"), failed_logins.add("a")] == [1, 1, 2]
    clock.now += users_module.FORGET_SECONDS - 1
    assert failed_logins.add("a") == 3
    clock.now += users_module.FORGET_SECONDS
    assert failed_logins.add("a") == 1


def test_no_more_addresses_are_remembered_than_there_is_room_for() -> None:
    failed_logins = FailedLogins()
    failed_logins.add("first")
    for number in range(ADDRESSES_LIMIT):
        failed_logins.add(str(number))
    assert len(failed_logins) == ADDRESSES_LIMIT
    assert failed_logins.add("first") == 1
    assert failed_logins.add(str(ADDRESSES_LIMIT - 1)) == 2


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        (("10.0.0.1", 5000), "10.0.0.1"),
        (("::ffff:10.0.0.1", 5000, 0, 0), "10.0.0.1"),
        (("2001:db8::1", 5000, 0, 0), "2001:db8::/64"),
        (("2001:db8::ffff:1", 5000, 0, 0), "2001:db8::/64"),
        (("fe80::1%eth0", 5000, 0, 2), "fe80::/64"),
        ("", "unix"),
        ("/tmp/socket", "unix"),
    ],
)
def test_a_client_is_identified_by_its_network(peer: object, text: str) -> None:
    assert client_network(peer) == text


class RecordingGate:
    """The gate of one connection. It keeps what it was asked for."""

    def __init__(self) -> None:
        self.delays: list[tuple[float, bool]] = []
        self.log: list[str] = []
        self.admitted = False
        self.waits = 0
        self.woken = threading.Event()

    def admit(self) -> None:
        self.admitted = True

    def hold_back(self, seconds: float, then_close: bool) -> None:
        self.delays.append((seconds, then_close))

    def await_check(self) -> None:
        self.waits += 1

    def wake(self) -> None:
        self.woken.set()

    def log_failure(self, text: str) -> None:
        self.log.append(text)


class GuardedServer:
    """Make login attempts, and keep the delays and log lines that they cause."""

    def __init__(self, file: Path) -> None:
        self.logins = Logins(Users(file))
        self.gate = RecordingGate()

    @property
    def delays(self) -> list[tuple[float, bool]]:
        return self.gate.delays

    @property
    def log(self) -> list[str]:
        return self.gate.log

    def login_attempts(self, address: str = "10.0.0.1") -> LoginAttempts:
        return LoginAttempts(self.logins, address, self.gate)


@pytest.fixture
def guarded(file: Path, clock: Seconds) -> GuardedServer:
    file.write_bytes(b"carl:clear\n")
    return GuardedServer(file)


def test_the_right_password_is_neither_delayed_nor_logged(guarded: GuardedServer) -> None:
    assert guarded.login_attempts().is_known(b"carl", b"clear")
    assert (guarded.delays, guarded.log) == ([], [])


def test_a_connection_is_delayed_and_after_a_few_failures_closed(guarded: GuardedServer) -> None:
    login_attempts = guarded.login_attempts()
    for _ in range(FAILURES_LIMIT):
        assert not login_attempts.is_known(b"carl", b"wrong")
    assert guarded.delays == [(delay_seconds(n), n == FAILURES_LIMIT) for n in range(1, FAILURES_LIMIT + 1)]
    assert not login_attempts.is_known(b"carl", b"clear")
    assert len(guarded.delays) == FAILURES_LIMIT


def test_a_new_connection_from_the_same_address_does_not_begin_anew(guarded: GuardedServer) -> None:
    for number in range(1, 7):
        assert not guarded.login_attempts().is_known(b"carl", b"wrong")
        assert guarded.delays[-1] == (delay_seconds(number), False)
    assert not guarded.login_attempts("10.0.0.2").is_known(b"carl", b"wrong")
    assert guarded.delays[-1] == (0, False)


def test_failures_are_logged_with_the_address_but_without_name_and_password(guarded: GuardedServer) -> None:
    guarded.login_attempts().is_known(b"mary", b"tudor")
    assert guarded.log == ["failed login from 10.0.0.1, 1 recently"]


# Checks beside the workers


@pytest.mark.parametrize(("password", "known"), [(b"s3cret", True), (b"wrong", False)])
def test_an_attempt_that_needs_a_hash_waits_for_its_check(file: Path, password: bytes, known: bool) -> None:
    server = GuardedServer(file)
    attempts = server.login_attempts()
    assert attempts.is_known(b"ann", password) is None
    assert server.gate.waits == 1
    assert not server.gate.admitted
    assert server.gate.woken.wait(PATIENCE_SECONDS)
    assert (attempts.is_checking, attempts.has_outcome) == (False, True)
    assert attempts.outcome() is known
    assert (attempts.is_checking, attempts.has_outcome) == (False, False)
    assert server.gate.admitted is known
    assert len(server.log) == len(server.delays) == int(not known)
    server.logins.checks.stop()


def test_an_attempt_for_which_there_is_no_room_fails(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks_module, "PENDING_LIMIT", 0)
    server = GuardedServer(file)
    attempts = server.login_attempts()
    assert attempts.is_known(b"ann", b"s3cret") is False
    assert attempts.is_known(b"carl", b"clear") is True
    assert len(server.log) == 1


def test_addresses_that_failed_are_known_for_a_while(clock: Seconds) -> None:
    failed_logins = FailedLogins()
    assert "a" not in failed_logins
    failed_logins.add("a")
    assert "a" in failed_logins
    assert "b" not in failed_logins
    clock.now += users_module.FORGET_SECONDS
    assert "a" not in failed_logins
