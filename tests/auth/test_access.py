"""Which class of commands a client may use, by policy, address, listener and user; classes in the users file."""

from pathlib import Path

import pytest

from memcache_kv.auth.access import HERE, CommandClass, Origin, highest_class, is_loopback
from memcache_kv.auth.users import Users, parse_users
from memcache_kv.config.settings import AdminCommands

READ, WRITE, ADMIN = CommandClass
LOCAL, ALWAYS, NEVER = AdminCommands


def origin(is_local: bool, listener_class: CommandClass | None = None) -> Origin:
    return Origin("", is_local, listener_class)


@pytest.mark.parametrize(
    ("policy", "where", "user_class", "allowed"),
    [
        (LOCAL, origin(True), None, ADMIN),
        (LOCAL, origin(False), None, WRITE),
        (ALWAYS, origin(False), None, ADMIN),
        (NEVER, origin(True), None, WRITE),
        (LOCAL, origin(False), ADMIN, ADMIN),
        (LOCAL, origin(True), WRITE, WRITE),
        (ALWAYS, origin(True), READ, READ),
        (NEVER, origin(True), ADMIN, WRITE),
        (LOCAL, origin(True, WRITE), None, WRITE),
        (LOCAL, origin(True, READ), ADMIN, READ),
        (LOCAL, origin(False, ADMIN), None, ADMIN),
        (LOCAL, origin(False, ADMIN), READ, READ),
        (NEVER, origin(False, ADMIN), ADMIN, WRITE),
        (ALWAYS, origin(False, WRITE), ADMIN, WRITE),
    ],
)
def test_a_client_may_use(
    policy: AdminCommands, where: Origin, user_class: CommandClass | None, allowed: CommandClass
) -> None:
    assert highest_class(policy, where, user_class) is allowed


def test_what_has_no_connection_is_local() -> None:
    assert highest_class(LOCAL, HERE) is ADMIN


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "::", "::2", "12.7.0.1", "fe80::1%lo", "1127.0.0.1", ""])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("line", "password", "user_class"),
    [
        (b"ann:pw:read", b"pw", READ),
        (b"ann:pw:write\r\n", b"pw", WRITE),
        (b"ann:p:w:admin\n", b"p:w", ADMIN),
        (b"ann:pw:read:write", b"pw:read", WRITE),
        (b"ann:pw:", b"pw:", None),
        (b"ann:pw:Read", b"pw:Read", None),
        (b"ann:read", b"read", None),
        (b"ann::read", b":read", None),
        (b"ann:pw:reader", b"pw:reader", None),
    ],
)
def test_a_class_ends_a_line_of_the_users_file(line: bytes, password: bytes, user_class: CommandClass | None) -> None:
    assert list(parse_users(line)) == [(b"ann", password, user_class)]


def test_the_lowest_class_counts_where_a_name_is_there_several_times(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_bytes(b"ann:a:write\nann:b\nann:c:read\nbob:d\n")
    users = Users(path)
    assert users.class_of(b"ann") is READ
    assert users.class_of(b"bob") is None
    assert users.class_of(b"removed meanwhile") is READ
    assert [users.has_user(name) for name in (b"ann", b"eve")] == [True, False]
