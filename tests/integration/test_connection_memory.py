"""Attacks with connections that keep much: memory above -m stays within the limit, and no item is evicted for it."""

import contextlib
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.integration.conftest import MakeServer
from tests.integration.wire import RunningServer, Wire
from tests.program import poll_until

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc"),
]

MEGABYTE = 1 << 20
LIMIT_MEGABYTES = 64
"""Both of -m and, by default, of --connection-memory."""
TOLERATED_MEGABYTES = 20
"""What a thousand connections take by themselves, and the holes of the allocator."""
VALUE = b"v" * 4000
KEPT = "memcache_kv_connection_memory"
CLOSED = "memcache_kv_connections_closed_for_memory"


@pytest.fixture
def server(ours: MakeServer) -> RunningServer:
    return ours("-m", str(LIMIT_MEGABYTES), "-c", "1100")


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def attack(opened: ExitStack, server: RunningServer, count: int, sends: bytes) -> list[socket.socket]:
    """Open connections, and send this on each as far as the server takes it."""
    clients = [opened.enter_context(server.connect()) for _ in range(count)]
    for client in clients:
        client.setblocking(False)
    give_up_at = time.monotonic() + 60
    unsent = dict.fromkeys(clients, 0)
    while unsent and time.monotonic() < give_up_at:
        before = sum(unsent.values())
        for client in list(unsent):
            with contextlib.suppress(BlockingIOError):
                try:
                    unsent[client] += client.send(sends[unsent[client] :])
                except ConnectionError:
                    unsent[client] = len(sends)
            if unsent[client] == len(sends):
                del unsent[client]
        if sum(unsent.values()) == before:
            time.sleep(0.01)
        if unsent and all(unsent.values()) and sum(unsent.values()) == before:
            break  # the server reads no more from those that are left
    return clients


def test_unread_replies_stay_within_the_limit(server: RunningServer, opened: ExitStack) -> None:
    with Wire(server) as other:
        other.expect(b"set k 0 0 4000\r\n" + VALUE + b"\r\n", b"STORED\r\n")
        before = server.resident_bytes()
        attack(opened, server, 1000, b"get k\r\n" * 1000)
        poll_until(lambda: int(other.stats(b"memcache_kv")[KEPT]) > LIMIT_MEGABYTES * MEGABYTE // 2, "much is kept")
        other.expect(b"get none\r\n", b"END\r\n")
        assert int(other.stats(b"memcache_kv")[KEPT]) <= LIMIT_MEGABYTES * MEGABYTE
        assert server.resident_bytes() - before < (LIMIT_MEGABYTES + TOLERATED_MEGABYTES) * MEGABYTE
        opened.close()
        poll_until(lambda: other.stats(b"memcache_kv")[KEPT] == "0", "all is given back")


def test_half_sent_sets_stay_within_the_limit_and_evict_nothing(server: RunningServer, opened: ExitStack) -> None:
    with Wire(server) as other:
        for start in range(0, 30_000, 100):
            batch = [b"set k%d 0 0 4000 noreply\r\n%b\r\n" % (n, VALUE) for n in range(start, start + 100)]
            other.expect(b"".join(batch) + b"mn\r\n", b"MN\r\n")
        evicted, full = other.stats()["evictions"], server.resident_bytes()
        attack(opened, server, 150, b"set a 0 0 1000000\r\n" + b"z" * 999_000)
        poll_until(lambda: int(other.stats(b"memcache_kv")[CLOSED]) > 0, "some are closed")
        other.expect(b"get none\r\n", b"END\r\n")
        assert int(other.stats(b"memcache_kv")[KEPT]) <= LIMIT_MEGABYTES * MEGABYTE
        assert other.stats()["evictions"] == evicted
        assert server.resident_bytes() - full < (LIMIT_MEGABYTES + TOLERATED_MEGABYTES) * MEGABYTE
        poll_until(lambda: "closed for memory" in server.log(), "the log says so")
