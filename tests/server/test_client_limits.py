"""Limits for each client address: connections, and those that are half-open."""

import socket

import pytest

from memcache_kv.server.addresses import HALF_OPEN_SHARE, AddressLimits, is_local
from tests.server.test_listener import Guarded as GuardedListener

STRANGER, OTHER = ("203.0.113.1", 4000), ("203.0.113.2", 4000)
LIMIT = 100
HALF_OPEN_LIMIT = LIMIT // HALF_OPEN_SHARE


def opened(limits: AddressLimits, peer: object, count: int, first: int = 0) -> int:
    """Open so many connections; return how many were let in."""
    return sum(limits.open(fd, peer) for fd in range(first, first + count))


def test_an_address_has_so_many_connections_and_another_has_its_own() -> None:
    limits = AddressLimits(LIMIT, 3, has_half_open=False)
    assert opened(limits, STRANGER, 5) == 3
    assert limits.rejected == 2
    assert opened(limits, OTHER, 5, first=10) == 3
    limits.close(0)
    assert opened(limits, STRANGER, 2, first=20) == 1


def test_a_quarter_of_all_may_be_half_open_and_those_that_are_done_make_room() -> None:
    limits = AddressLimits(LIMIT, 0, has_half_open=True)
    assert opened(limits, STRANGER, LIMIT) == HALF_OPEN_LIMIT
    assert opened(limits, OTHER, 1, first=1000) == 1
    for fd in range(5):
        limits.settled(fd)
        limits.settled(fd)
    assert opened(limits, STRANGER, LIMIT, first=200) == 5
    limits.close(5)
    limits.close(0)
    assert opened(limits, STRANGER, LIMIT, first=400) == 1


def test_the_addresses_of_one_ipv6_network_share_their_limit() -> None:
    limits = AddressLimits(LIMIT, 2, has_half_open=False)
    answers = [limits.open(number, (f"2001:db8::{number}", 4000, 0, 0)) for number in range(3)]
    assert answers == [True, True, False]
    assert limits.open(9, ("2001:db8:0:1::1", 4000, 0, 0))


@pytest.mark.parametrize(
    ("peer", "local"),
    [
        (("127.0.0.1", 1), True),
        (("127.1.2.3", 1), True),
        (("::1", 1, 0, 0), True),
        (("::ffff:127.0.0.1", 1, 0, 0), True),
        ("", True),
        ("/tmp/socket", True),
        (STRANGER, False),
        (("0.0.0.0", 1), False),
        (("::", 1, 0, 0), False),
        (("fe80::1%eth0", 1, 0, 2), False),
        (("not an address", 1), False),
    ],
)
def test_loopback_and_unix_sockets_have_no_limit(peer: object, local: bool) -> None:
    assert is_local(peer) is local
    limits = AddressLimits(LIMIT, 1, has_half_open=True)
    assert opened(limits, peer, 5) == (5 if local else 1)


def test_nothing_is_kept_of_a_closed_connection() -> None:
    limits = AddressLimits(4, 1, has_half_open=True)
    for number in range(20):
        assert limits.open(number, (f"203.0.113.{number}", 1))
        limits.close(number)
        limits.close(number)
    assert not limits.is_counting


def test_a_listener_rejects_what_is_too_much_and_says_so() -> None:
    limits = AddressLimits(LIMIT, 1, has_half_open=False)
    guarded = GuardedListener(limits)
    assert limits.open(1 << 20, STRANGER)
    for _ in range(3):
        ours, theirs = socket.socketpair()
        with theirs:
            guarded.server.process_request(ours, STRANGER)
            assert theirs.recv(100) == b"ERROR Too many open connections\r\n"
            assert theirs.recv(1) == b""
    assert guarded.said == ["rejected a connection from 203.0.113.1, which has too many"]
    assert (guarded.totals.current, guarded.totals.rejected, guarded.totals.rejected_by_address) == (0, 3, 3)
    guarded.server.server_close()


def test_a_connection_that_no_worker_takes_is_not_counted() -> None:
    limits = AddressLimits(LIMIT, 1, has_half_open=True)
    guarded = GuardedListener(limits)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(OSError, match="not connected"):
        guarded.server.process_request(ours, STRANGER)
    assert not limits.is_counting
    guarded.server.server_close()
