"""The asynchronous client emcache against both servers."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.integration.client_library import TIMEOUT, Loop, require
from tests.integration.conftest import MakeServer
from tests.integration.wire import RunningServer, Wire, poll_until

require("emcache", free_threaded=False)

from emcache import (  # noqa: E402
    Client,
    CommandError,
    Item,
    MemcachedHostAddress,
    MemcachedUnixSocketPath,
    NotFoundCommandError,
    NotStoredStorageCommandError,
    StorageCommandError,
    create_client,
)


@pytest.fixture
def loop() -> Iterator[Loop]:
    """The event loop of a test."""
    with closing(Loop()) as driven:
        yield driven


@pytest.fixture
def address(server: RunningServer) -> MemcachedHostAddress:
    """Where the server listens, as this client names it."""
    return MemcachedHostAddress(server.host, server.port)


@pytest.fixture
def client(loop: Loop, address: MemcachedHostAddress) -> Iterator[Client]:
    """A client with one connection, so that what it does without a reply is done in order."""
    single = loop(create_client([address], timeout=TIMEOUT, max_connections=1))
    yield single
    loop(single.close())


@pytest.fixture
def batching(loop: Loop, address: MemcachedHostAddress) -> Iterator[Client]:
    """A client that asks for the keys of many callers at once."""
    gathering = loop(
        create_client([address], timeout=TIMEOUT, max_connections=2, autobatching=True, autobatching_max_keys=8)
    )
    yield gathering
    loop(gathering.close())


def test_what_is_set_is_got(loop: Loop, client: Client) -> None:
    assert loop(client.get(b"key")) is None
    loop(client.set(b"key", b"value"))
    assert loop(client.get(b"key")) == Item(b"value", None, None)
    loop(client.set(b"key", b""))
    assert loop(client.get(b"key")) == Item(b"", None, None)


@pytest.mark.parametrize("key", [b"k", b"k" * 250, b"!~", "schlüssel".encode()])
def test_every_key_that_it_allows_is_stored(loop: Loop, client: Client, key: bytes) -> None:
    loop(client.set(key, b"x"))
    assert loop(client.get_many([key, b"other"])) == {key: Item(b"x", None, None)}
    loop(client.delete(key))


def test_the_storage_commands_do_what_they_say(loop: Loop, client: Client) -> None:
    for refused in (client.replace(b"key", b"1"), client.append(b"key", b"1"), client.prepend(b"key", b"1")):
        with pytest.raises(NotStoredStorageCommandError):
            loop(refused)
    loop(client.add(b"key", b"b", flags=5))
    with pytest.raises(NotStoredStorageCommandError):
        loop(client.add(b"key", b"z"))
    loop(client.append(b"key", b"c"))
    loop(client.prepend(b"key", b"a"))
    assert loop(client.get(b"key", return_flags=True)) == Item(b"abc", 5, None)
    loop(client.replace(b"key", b"new"))
    assert loop(client.get(b"key", return_flags=True)) == Item(b"new", 0, None)


def test_commands_without_replies_do_the_same(loop: Loop, client: Client, address: MemcachedHostAddress) -> None:
    loop(client.set(b"key", b"b", noreply=True))
    loop(client.add(b"key", b"z", noreply=True))
    loop(client.append(b"key", b"c", noreply=True))
    loop(client.prepend(b"key", b"a", noreply=True))
    loop(client.replace(b"nothing", b"z", noreply=True))
    assert loop(client.get_many([b"key", b"nothing"])) == {b"key": Item(b"abc", None, None)}
    loop(client.set(b"number", b"5", noreply=True))
    loop(client.increment(b"number", 3, noreply=True))
    loop(client.decrement(b"number", 1, noreply=True))
    loop(client.increment(b"key", 3, noreply=True))
    assert loop(client.get(b"number")) == Item(b"7", None, None)
    loop(client.touch(b"number", -1, noreply=True))
    loop(client.delete(b"key", noreply=True))
    loop(client.delete(b"key", noreply=True))
    loop(client.verbosity(address, 0, noreply=True))
    loop(client.cache_memlimit(address, 100, noreply=True))
    assert loop(client.get_many([b"key", b"number"])) == {}
    loop(client.set(b"key", b"x"))
    loop(client.flush_all(address, noreply=True))
    assert loop(client.get(b"key")) is None


@pytest.mark.parametrize("flags", [0, 1, 255, 2**16])
def test_flags_come_back_with_the_value(loop: Loop, client: Client, flags: int) -> None:
    loop(client.set(b"key", b"x", flags=flags))
    assert loop(client.get(b"key", return_flags=True)) == Item(b"x", flags, None)
    item = loop(client.gets(b"key", return_flags=True))
    assert item is not None
    assert (item.flags, item.cas is None) == (flags, False)
    assert loop(client.get_many([b"key"], return_flags=True)) == {b"key": Item(b"x", flags, None)}
    assert loop(client.gat(100, b"key", return_flags=True)) == Item(b"x", flags, None)


def test_cas_stores_only_what_nobody_changed(loop: Loop, client: Client) -> None:
    with pytest.raises(StorageCommandError, match="NOT_FOUND"):
        loop(client.cas(b"key", b"x", 1))
    loop(client.set(b"key", b"old"))
    number = _cas(loop(client.gets(b"key")))
    loop(client.cas(b"key", b"new", number, flags=7))
    with pytest.raises(NotStoredStorageCommandError):
        loop(client.cas(b"key", b"newer", number))
    assert loop(client.get(b"key", return_flags=True)) == Item(b"new", 7, None)
    loop(client.cas(b"key", b"silent", _cas(loop(client.gets(b"key"))), noreply=True))
    assert loop(client.get(b"key")) == Item(b"silent", None, None)


def _cas(item: Item | None) -> int:
    assert item is not None
    assert item.cas is not None
    return item.cas


def test_many_keys_are_got_at_once(loop: Loop, client: Client) -> None:
    keys = [b"many-%d" % number for number in range(300)]
    for key in keys:
        loop(client.set(key, key * 2, noreply=True))
    assert loop(client.get_many([*keys, b"nothing"])) == {key: Item(key * 2, None, None) for key in keys}
    found = loop(client.gets_many(keys))
    assert {key: item.value for key, item in found.items()} == {key: key * 2 for key in keys}
    assert len({item.cas for item in found.values()}) == 300


def test_gat_and_gats_fetch_and_change_the_lifetime(loop: Loop, client: Client) -> None:
    for key in (b"a", b"b", b"c", b"d", b"short"):
        loop(client.set(key, key, exptime=1))
    assert loop(client.gat(1000, b"a")) == Item(b"a", None, None)
    number = _cas(loop(client.gats(1000, b"b")))
    many: Any = loop(client.gat_many(1000, [b"c", b"nothing"]))  # its annotation says that this were one item
    assert many == {b"c": Item(b"c", None, None)}
    many = loop(client.gats_many(1000, [b"nothing", b"d"]))
    assert {key: (item.value, item.cas is None) for key, item in many.items()} == {b"d": (b"d", False)}
    poll_until(lambda: loop(client.get(b"short")) is None, "the key expires")
    assert set(loop(client.get_many([b"a", b"b", b"c", b"d", b"short"]))) == {b"a", b"b", b"c", b"d"}
    loop(client.cas(b"b", b"new", number))
    assert loop(client.gat(-1, b"a")) == Item(b"a", None, None)
    assert loop(client.gat(100, b"a")) is None
    assert loop(client.gats(100, b"nothing")) is None


def test_touch_changes_the_lifetime(loop: Loop, client: Client) -> None:
    loop(client.set(b"touched", b"x", exptime=1))
    loop(client.set(b"short", b"x", exptime=1))
    loop(client.touch(b"touched", 1000))
    with pytest.raises(NotFoundCommandError):
        loop(client.touch(b"nothing", 1000))
    poll_until(lambda: loop(client.get(b"short")) is None, "the key expires")
    assert loop(client.get(b"touched")) == Item(b"x", None, None)


def test_numbers_are_counted_up_and_down(loop: Loop, client: Client) -> None:
    loop(client.set(b"number", b"10"))
    assert loop(client.increment(b"number", 5)) == 15
    assert loop(client.decrement(b"number", 20)) == 0
    assert loop(client.increment(b"number", 2**64 - 1)) == 2**64 - 1
    assert loop(client.increment(b"number", 2)) == 1
    with pytest.raises(NotFoundCommandError):
        loop(client.increment(b"nothing", 1))
    with pytest.raises(NotFoundCommandError):
        loop(client.decrement(b"nothing", 1))


def test_delete_raises_where_there_is_nothing(loop: Loop, client: Client) -> None:
    loop(client.set(b"key", b"x"))
    loop(client.delete(b"key"))
    with pytest.raises(NotFoundCommandError):
        loop(client.delete(b"key"))


def test_a_value_of_any_bytes_and_any_length_comes_back(loop: Loop, client: Client) -> None:
    for value in (bytes(range(256)), b"\r\nEND\r\n", b"x" * 100_000, bytes(range(256)) * 4000):
        loop(client.set(b"value", value))
        assert loop(client.get(b"value")) == Item(value, None, None)


def test_a_value_too_large_is_refused_and_the_old_one_is_gone(loop: Loop, client: Client) -> None:
    loop(client.set(b"large", b"old"))
    with pytest.raises(StorageCommandError, match="object too large for cache"):
        loop(client.set(b"large", bytes(1024 * 1024)))
    assert loop(client.get(b"large")) is None


def test_the_server_is_asked_and_told_about_itself(
    loop: Loop, client: Client, address: MemcachedHostAddress, server: RunningServer
) -> None:
    assert loop(client.version(address)) == server.version
    loop(client.cache_memlimit(address, 128))
    assert loop(client.stats(address))["limit_maxbytes"] == str(128 * 1024 * 1024)
    loop(client.verbosity(address, 1))
    assert loop(client.stats(address, "settings"))["verbosity"] == "1"
    loop(client.verbosity(address, 0))
    assert loop(client.stats(address, "settings"))["verbosity"] == "0"


def test_stats_tell_what_happened(loop: Loop, client: Client, address: MemcachedHostAddress) -> None:
    loop(client.set(b"key", b"x"))
    before = loop(client.stats(address))
    loop(client.get_many([b"key", b"nothing"]))
    loop(client.gat(10, b"key"))
    after = loop(client.stats(address))
    for name, change in (("get_hits", 1), ("get_misses", 1), ("touch_hits", 1), ("cmd_set", 0)):
        assert int(after[name]) - int(before[name]) == change, name
    assert loop(client.stats(address, "sizes")) == {"sizes_status": "disabled"}
    with pytest.raises(CommandError):
        loop(client.stats(address, "nonsense"))


def test_flush_all_empties_the_server(loop: Loop, client: Client, address: MemcachedHostAddress) -> None:
    loop(client.set(b"key", b"x"))
    loop(client.flush_all(address))
    assert loop(client.get(b"key")) is None
    loop(client.set(b"key", b"x"))
    loop(client.flush_all(address, 1000))
    assert loop(client.get(b"key")) == Item(b"x", None, None)


def test_the_keys_of_many_callers_are_fetched_in_batches(loop: Loop, batching: Client, server: RunningServer) -> None:
    keys = [b"batch-%d" % number for number in range(50)]
    for key in keys[:40]:
        loop(batching.set(key, key))

    async def all_at_once() -> list[Item | None]:
        return await asyncio.gather(*(batching.get(key) for key in keys + keys))

    expected = [Item(key, None, None) for key in keys[:40]] + [None] * 10
    with Wire(server) as wire:
        before = int(wire.stats()["cmd_get"])
        assert loop(all_at_once()) == expected + expected
        assert int(wire.stats()["cmd_get"]) - before == 50
    item = loop(batching.gets(b"batch-1", return_flags=True))
    loop(batching.cas(b"batch-1", b"new", _cas(item)))
    assert loop(batching.get(b"batch-1")) == Item(b"new", None, None)


def test_many_tasks_share_the_connections(loop: Loop, batching: Client) -> None:
    async def work(number: int) -> bool:
        key = b"task-%d" % number
        for turn in range(10):
            await batching.set(key, b"%d" % turn)
            await batching.increment(b"total", 1)
            if await batching.get(key) != Item(b"%d" % turn, None, None):
                return False
        return True

    async def all_of_them() -> list[bool]:
        return await asyncio.gather(*(work(number) for number in range(40)))

    loop(batching.set(b"total", b"0"))
    assert loop(all_of_them()) == [True] * 40
    assert loop(batching.get(b"total")) == Item(b"400", None, None)


def test_keys_are_spread_over_several_servers(loop: Loop, make_server: MakeServer) -> None:
    servers = [make_server() for _ in range(3)]
    addresses = [MemcachedHostAddress(server.host, server.port) for server in servers]
    cluster = loop(create_client(addresses, timeout=TIMEOUT))
    keys = [b"spread-%d" % number for number in range(200)]
    for key in keys:
        loop(cluster.set(key, key))
    assert loop(cluster.get_many(keys)) == {key: Item(key, None, None) for key in keys}
    shares = [int(loop(cluster.stats(address))["curr_items"]) for address in addresses]
    assert (sum(shares), min(shares) > 0) == (200, True)
    loop(cluster.close())


def test_a_unix_socket_is_a_server_like_any_other(loop: Loop, make_server: MakeServer) -> None:
    with TemporaryDirectory(prefix="kv") as directory:
        path = str(Path(directory, "s"))
        make_server(unix=path)
        client = loop(create_client([MemcachedUnixSocketPath(path)], timeout=TIMEOUT))
        loop(client.set(b"key", b"x" * 100_000))
        assert loop(client.get(b"key")) == Item(b"x" * 100_000, None, None)
        loop(client.close())


def test_a_server_without_a_cluster_to_discover_says_so_at_once(
    loop: Loop, address: MemcachedHostAddress, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "emcache"):
        client = loop(create_client([address], timeout=TIMEOUT, autodiscovery=True))
        loop(client.close())
    assert "does the server support 'config get cluster' command?" in caplog.text
