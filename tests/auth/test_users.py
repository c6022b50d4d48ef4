"""Passwords in clear and hashed, what a check of a hash may cost, and how guesses are counted and slowed."""

import sys
from pathlib import Path

import bcrypt
import pytest

from memcache_kv.auth import users as users_module
from memcache_kv.auth.users import (
    FREE_FAILURES,
    LONGEST_DELAY_SECONDS,
    MOST_ADDRESSES,
    MOST_CHECKS,
    MOST_FAILURES,
    FailedLogins,
    LoginAttempts,
    Users,
    delay_seconds,
    origin,
)
from memcache_kv.errors import ConfigError


def hashed(password: bytes, cost: int = 4) -> bytes:
    return bcrypt.hashpw(password, bcrypt.gensalt(cost))


class CountedChecks:
    """The library's check, counted."""

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
    for password in (b"s3cret", b"guess", b"other"):
        users.is_known(b"ann", password)
        users.is_known(b"nobody", password)
    assert checks.count == 2


@pytest.mark.parametrize("name", [b"ann", b"bob", b"carl", b"nobody"])
def test_a_failed_attempt_costs_one_check_whoever_it_names(file: Path, checks: CountedChecks, name: bytes) -> None:
    users = Users(file)
    assert not users.is_known(name, b"guess")
    assert checks.count == 1
    assert users.is_known(b"ann", b"s3cret")
    before = checks.count
    assert not users.is_known(name, b"guess")
    assert checks.count == before + 1


def test_checks_are_rare_however_many_guess(file: Path, checks: CountedChecks, clock: Seconds) -> None:
    users = Users(file)
    for _ in range(5 * MOST_CHECKS):
        assert not users.is_known(b"ann", b"guess")
    assert checks.count == MOST_CHECKS
    assert users.is_known(b"carl", b"clear")
    clock.now += users_module.CHECKS_SECONDS
    assert users.is_known(b"ann", b"s3cret")


def test_a_hash_that_would_hold_up_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_bytes(b"ann:" + hashed(b"s3cret").replace(b"$04$", b"$11$") + b"\n")
    with pytest.raises(ConfigError, match="has a hash of the cost 11: 10 is the highest"):
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


# Guesses


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(1, 0), (FREE_FAILURES, 0), (FREE_FAILURES + 1, 1), (FREE_FAILURES + 2, 2), (FREE_FAILURES + 3, 4),
     (FREE_FAILURES + 5, 16), (FREE_FAILURES + 6, LONGEST_DELAY_SECONDS), (10**9, LONGEST_DELAY_SECONDS)],
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
    for number in range(MOST_ADDRESSES):
        failed_logins.add(str(number))
    assert len(failed_logins._failures) == MOST_ADDRESSES
    assert failed_logins.add("first") == 1
    assert failed_logins.add(str(MOST_ADDRESSES - 1)) == 2


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        (("10.0.0.1", 5000), "10.0.0.1"),
        (("2001:db8::1", 5000, 0, 0), "2001:db8::/64"),
        (("2001:db8::ffff:1", 5000, 0, 0), "2001:db8::/64"),
        (("fe80::1%eth0", 5000, 0, 2), "fe80::/64"),
        ("", "unix"),
        ("/tmp/socket", "unix"),
    ],
)
def test_an_origin_is_what_one_client_has_but_one_of(peer: object, text: str) -> None:
    assert origin(peer) == text


class Door:
    """Where visitors come in, and what is done to them."""

    def __init__(self, file: Path) -> None:
        self.users, self.failed_logins = Users(file), FailedLogins()
        self.slowed: list[tuple[float, bool]] = []
        self.said: list[str] = []

    def login_attempts(self, address: str = "10.0.0.1") -> LoginAttempts:
        return LoginAttempts(
            self.users, self.failed_logins, address, lambda *how: self.slowed.append(how), self.said.append
        )


@pytest.fixture
def tls_listener(file: Path, clock: Seconds) -> Door:
    file.write_bytes(b"carl:clear\n")
    return Door(file)


def test_the_right_password_is_not_slowed_or_told_of(tls_listener: Door) -> None:
    assert tls_listener.login_attempts().is_known(b"carl", b"clear")
    assert (tls_listener.slowed, tls_listener.said) == ([], [])


def test_a_connection_is_slowed_and_after_a_few_failures_closed(tls_listener: Door) -> None:
    login_attempts = tls_listener.login_attempts()
    for _ in range(MOST_FAILURES):
        assert not login_attempts.is_known(b"carl", b"guess")
    assert tls_listener.slowed == [(delay_seconds(n), n == MOST_FAILURES) for n in range(1, MOST_FAILURES + 1)]
    assert not login_attempts.is_known(b"carl", b"clear")
    assert len(tls_listener.slowed) == MOST_FAILURES


def test_a_new_connection_from_the_same_address_does_not_begin_anew(tls_listener: Door) -> None:
    for number in range(1, 7):
        assert not tls_listener.login_attempts().is_known(b"carl", b"guess")
        assert tls_listener.slowed[-1] == (delay_seconds(number), False)
    assert not tls_listener.login_attempts("10.0.0.2").is_known(b"carl", b"guess")
    assert tls_listener.slowed[-1] == (0, False)


def test_failures_are_told_with_the_address_and_neither_name_nor_password(tls_listener: Door) -> None:
    tls_listener.login_attempts().is_known(b"mary", b"tudor")
    assert tls_listener.said == ["failed login from 10.0.0.1, number 1 of late"]
