"""pylibmc, the client over the C library libmemcached, in text mode against both servers."""

import importlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.integration.client_library import require
from tests.integration.conftest import MakeServer
from tests.integration.wire import OURS, RunningServer, Wire, poll_until

require("pylibmc", last_python=(3, 11))

pylibmc: Any = importlib.import_module("pylibmc")

BEHAVIORS: dict[str, dict[str, object]] = {
    "plain": {"cas": True},
    "no_delay": {"cas": True, "tcp_nodelay": True, "tcp_keepalive": True, "verify_keys": True},
    "no_block": {"cas": True, "no_block": True, "tcp_nodelay": True, "send_timeout": 30_000_000},
    "ketama": {"cas": True, "ketama": True, "hash": "md5", "ketama_hash": "md5"},
    "consistent": {"cas": True, "distribution": "consistent", "hash": "murmur"},
}


def name_of(server: RunningServer) -> str:
    """The server as this client names it."""
    return server.unix or f"{server.host}:{server.port}"


def connect(*servers: RunningServer, **behaviors: object) -> Any:
    """A text client of these servers."""
    return pylibmc.Client([name_of(server) for server in servers], binary=False, behaviors=behaviors)


@pytest.fixture(params=BEHAVIORS)
def client(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Any]:
    """A client, once for each way to tune it."""
    tuned = connect(server, **BEHAVIORS[request.param])
    yield tuned
    tuned.disconnect_all()


@pytest.fixture
def plain(server: RunningServer) -> Iterator[Any]:
    """A client as it is, with CAS."""
    untuned = connect(server, cas=True)
    yield untuned
    untuned.disconnect_all()


@pytest.mark.parametrize(
    "value",
    ["text", "ünïcode 鍵", "", b"bytes", b"\r\nEND\r\n\x00\xff", 42, -7, 2**70, 1.5, None, {"a": [1, (2, None)]}],
)
def test_what_is_set_is_got_with_its_type(client: Any, value: object) -> None:
    assert client.set("key", value) is True
    got = client.get("key", "default")
    assert (got, type(got)) == (value, type(value))
    assert client.get_multi(["key", "nothing"]) == {"key": value}
    assert client.gets("key")[0] == value


def test_what_is_missing_is_the_default(client: Any) -> None:
    assert client.get("key") is None
    assert client.get("key", "default") == "default"
    assert client.gets("key") == (None, None)
    assert ("key" in client) is False
    with pytest.raises(KeyError):
        client["key"]


def test_a_client_is_a_mapping_too(client: Any) -> None:
    client["key"] = "x"
    assert client["key"] == "x"
    assert "key" in client
    del client["key"]
    assert "key" not in client


def test_the_storage_commands_do_what_they_say(client: Any) -> None:
    assert client.replace("key", "1") is False
    assert client.append("key", "1") is False
    assert client.prepend("key", "1") is False
    assert client.add("key", "b") is True
    assert client.add("key", "z") is False
    assert client.append("key", "c") is True
    assert client.prepend("key", "a") is True
    assert client.get("key") == "abc"
    assert client.replace("key", "new") is True
    assert client.get("key") == "new"
    assert client.delete("key") is True
    assert client.delete("key") is False


def test_many_keys_are_set_got_and_deleted_at_once(client: Any) -> None:
    values = {f"many-{number}": number for number in range(500)}
    assert client.set_multi(values) == []
    assert client.get_multi([*values, "nothing"]) == values
    assert client.add_multi({"many-1": 0, "many-new": 1}) == ["many-1"]
    assert client.delete_multi(list(values)) is True
    assert client.get_multi([*values, "many-new"]) == {"many-new": 1}
    assert client.delete_multi(["many-new", "nothing"]) is False


def test_a_prefix_is_put_before_the_keys_of_many(client: Any) -> None:
    assert client.set_multi({"a": "x", "b": "y"}, key_prefix="app:") == []
    assert client.get_multi(["a", "b", "c"], key_prefix="app:") == {"a": "x", "b": "y"}
    assert client.get("app:a") == "x"
    assert client.delete_multi(["a"], key_prefix="app:") is True
    assert client.get("app:a") is None


def test_cas_stores_only_what_nobody_changed(client: Any) -> None:
    client.set("key", "old")
    value, number = client.gets("key")
    assert value == "old"
    assert client.cas("key", "new", number) is True
    assert client.cas("key", "newer", number) is False
    assert client.get("key") == "new"
    client.delete("key")
    with pytest.raises(pylibmc.NotFound):
        client.cas("key", "x", number)


def test_numbers_are_counted_up_and_down(client: Any) -> None:
    with pytest.raises(pylibmc.NotFound):
        client.incr("number")
    client.set("number", 10)
    assert client.incr("number") == 11
    assert client.incr("number", 9) == 20
    assert client.decr("number", 11) == 9
    assert client.decr("number", 100) == 0
    assert client.get("number") == 0
    assert client.incr("number", 2**31 - 1) == 2**31 - 1
    assert client.incr("number", 2**31 - 1) == 2**32 - 2


def test_counting_what_is_no_number_raises(plain: Any) -> None:
    plain.set("word", "abc")
    with pytest.raises(pylibmc.Error):
        plain.incr("word")
    assert plain.get("word") == "abc"


def test_many_numbers_are_counted_at_once(client: Any) -> None:
    client.set_multi({"a": 1, "b": 2, "c": 3})
    assert client.incr_multi(["a", "b"]) is None
    assert client.incr_multi(["b", "c"], delta=10) is None
    assert client.get_multi(["a", "b", "c"]) == {"a": 2, "b": 13, "c": 13}
    client.set("app:d", 4)
    client.incr_multi(["d"], key_prefix="app:", delta=2)
    assert client.get("app:d") == 6


def test_touch_changes_the_lifetime(plain: Any) -> None:
    plain.set("touched", "x", time=1)
    plain.set("short", "x", time=1)
    plain.set_multi({"also": "x"}, time=1)
    plain.set("absolute", "x", time=int(time.time()) + 1000)
    assert plain.touch("touched", 1000) is True
    assert plain.touch("nothing", 1000) is False
    poll_until(lambda: plain.get_multi(["short", "also"]) == {}, "the keys expire")
    assert plain.get_multi(["touched", "absolute"]) == {"touched": "x", "absolute": "x"}


@pytest.mark.parametrize("key", ["k", "k" * 250, "schlüssel", "鍵🔑"])
def test_every_key_that_it_allows_is_stored(plain: Any, key: str) -> None:
    assert plain.set(key, "x") is True
    assert plain.get(key) == "x"
    assert plain.delete(key) is True


def test_large_values_come_back_whole(client: Any) -> None:
    value = bytes(range(256)) * 4000
    assert client.set("large", value) is True
    assert client.get("large") == value
    many = {f"large-{number}": value[number:] for number in range(5)}
    assert client.set_multi(many) == []
    assert client.get_multi(list(many)) == many


def test_a_value_too_large_is_refused_and_the_old_one_is_gone(plain: Any) -> None:
    plain.set("large", "old")
    with pytest.raises(pylibmc.Error):
        plain.set("large", bytes(1024 * 1024))
    plain.disconnect_all()
    assert plain.get("large") is None
    assert plain.set("large", "small") is True


@pytest.mark.skipif(not pylibmc.support_compression, reason="this pylibmc is built without zlib")
def test_long_values_are_compressed_and_come_back(client: Any, server: RunningServer) -> None:
    value = "compressible " * 100_000
    assert client.set("long", value, min_compress_len=100) is True
    assert client.set_multi({"many": value}, min_compress_len=100) == []
    assert client.get_multi(["long", "many"]) == {"long": value, "many": value}
    with Wire(server) as wire:
        assert len(wire.ask(b"get long\r\n")) < 100_000


def test_commands_without_replies_do_the_same(server: RunningServer, plain: Any) -> None:
    silent = connect(server, _noreply=True)
    for number in range(300):
        silent.set(f"silent-{number}", number)
    silent.delete("silent-0")
    silent.add("silent-1", 0)
    silent.append("silent-2", b"2")
    poll_until(lambda: plain.get("silent-2") == 22, "the last command is carried out")
    assert plain.get_multi(["silent-0", "silent-1", "silent-299"]) == {"silent-1": 1, "silent-299": 299}
    silent.disconnect_all()


def test_stats_come_from_each_server(plain: Any, server: RunningServer) -> None:
    plain.set("key", "x")
    [(name, stats)] = plain.get_stats()
    assert name.startswith(name_of(server).encode())
    assert stats["version"] == server.version.encode()
    assert (int(stats["curr_items"]) >= 1, stats["limit_maxbytes"]) == (True, b"67108864")
    assert float(stats["rusage_user"]) >= 0
    assert (int(stats["pid"]), int(stats["cmd_set"]) > 0) == (server.pid, True)


def test_flush_all_empties_the_server(client: Any) -> None:
    client.set("key", "x")
    assert client.flush_all() is True
    assert client.get("key") is None


def test_a_pool_serves_many_threads_at_once(plain: Any) -> None:
    pool = pylibmc.ClientPool(plain, 4)
    plain.set("total", 0)

    def work(number: int) -> bool:
        for turn in range(20):
            with pool.reserve(block=True) as client:
                client.set(f"thread-{number}", turn)
                client.incr("total")
                if client.get(f"thread-{number}") != turn:
                    return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(8))) == [True] * 8
    assert plain.get("total") == 160


@pytest.mark.parametrize("behaviors", [{}, *BEHAVIORS.values()], ids=["none", *BEHAVIORS])
def test_keys_are_spread_over_several_servers(make_server: MakeServer, behaviors: dict[str, object]) -> None:
    servers = [make_server() for _ in range(3)]
    client = connect(*servers, **behaviors)
    values = {f"spread-{number}": number for number in range(300)}
    assert client.set_multi(values) == []
    assert client.get_multi(list(values)) == values
    shares = [int(stats["curr_items"]) for _, stats in client.get_stats()]
    assert (sum(shares), min(shares) > 0) == (300, True)
    client.incr_multi(list(values))
    assert client.get_multi(list(values)) == {key: number + 1 for key, number in values.items()}

    def is_flushed() -> bool:
        return client.flush_all() is True and client.get_multi(list(values)) == {}

    if servers[0].kind == OURS:
        assert is_flushed()
    else:  # seldom a flush of memcached leaves one of the items that were changed just before
        poll_until(is_flushed, "all are gone")
    client.disconnect_all()


def test_a_unix_socket_is_a_server_like_any_other(make_server: MakeServer) -> None:
    with TemporaryDirectory(prefix="kv") as directory:
        client = connect(make_server(unix=str(Path(directory, "s"))))
        assert client.set("key", "x" * 100_000) is True
        assert client.get("key") == "x" * 100_000
        client.disconnect_all()
