"""What access metadata cost: the items that a client asks about, and nothing of the others."""

import io
import socket
from collections.abc import Iterator

import pytest

from memcache_kv.config.memcached_options import MIB
from memcache_kv.config.settings import Settings
from memcache_kv.observe.log import Log
from memcache_kv.server.memory import MemoryWatch
from memcache_kv.server.run import ServerRun
from memcache_kv.store.entry import ITEM_COST_BYTES

ITEMS = 12_000
KEYS = [b"key:%05d" % number for number in range(ITEMS)]
HELD_PART = 0.97
"""How many of the items are held at least, as the limit is checked at steps, and at each write while evictions are
watched."""
PATIENCE_SECONDS = 60
WATCH = b"watch evictions deletions fetchers mutations\r\n"
ASKED = {
    "mg": b"mg x h\r\nmg x l\r\nmg x h l t\r\nmg none h l\r\n",
    "me": b"me x\r\nme none\r\n",
    "watch": WATCH,
    "detail": b"stats detail on\r\nlru_crawler metadump all\r\n",
}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerRun]:
    monkeypatch.setattr(
        MemoryWatch, "check", lambda watch: None
    )  # the memory of this process is that of other tests too
    settings = Settings(port=0, listen=("127.0.0.1",), memory_limit=2 * MIB, max_item_size=MIB // 16, threads=1)
    made = ServerRun(settings, log=Log(0, io.StringIO()))
    made.start()
    yield made
    made.stop()


def connected(service: ServerRun) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_SECONDS)


def ask(client: socket.socket, requests: bytes, end: bytes = b"MN\r\n") -> bytes:
    """Send requests, and return what is replied up to this end."""
    client.sendall(requests + b"mn\r\n" * (end == b"MN\r\n"))
    reply = bytearray()
    while not reply.endswith(end):
        piece = client.recv(1 << 16)
        assert piece
        reply += piece
    return bytes(reply)


def fill(client: socket.socket) -> None:
    """Set more items than there is room for."""
    ask(client, b"".join(b"set %b 0 0 10 noreply\r\n0123456789\r\n" % key for key in KEYS))


def read_all(client: socket.socket) -> None:
    for start in range(0, ITEMS, 100):
        keys = KEYS[start : start + 100]
        ask(client, b"get " + b" ".join(keys) + b"\r\n")
        ask(client, b"".join(b"get %b\r\n" % key for key in keys))
        ask(client, b"".join(b"mg %b v\r\nmg %b k s t v\r\n" % (key, key) for key in keys))


def evictions(service: ServerRun) -> int:
    return sum(shard.evictions for shard in service.store.shards)


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED.keys())
def test_a_client_that_asks_takes_no_room_from_a_full_cache(service: ServerRun, asked: bytes) -> None:
    store = service.store
    with connected(service) as client, connected(service) as other:
        fill(client)
        ask(client, b"set x 0 0 1\r\n1\r\n")
        while store.free_some():  # what is due now is not evicted for what is asked
            pass
        held, used_bytes, evicted = len(store), store.used_bytes, evictions(service)
        assert evicted
        ask(other, asked, b"OK\r\n" if asked == WATCH else b"MN\r\n")
        read_all(client)
        assert evictions(service) - evicted <= 1  # x takes more as an Item
        assert store.used_bytes <= used_bytes + ITEM_COST_BYTES
        fill(client)
        assert len(store) >= HELD_PART * held
        assert {key for key, entry in store.items() if not isinstance(entry, bytes)} <= {b"x"}
