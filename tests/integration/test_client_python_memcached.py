"""The client python-memcached (its module is called memcache) against both servers."""

import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.integration.client_library import TIMEOUT, require
from tests.integration.conftest import MakeServer
from tests.integration.wire import RunningServer, Wire, poll_until
from tests.ports import free_port

require("memcache")

import memcache  # type: ignore[import-untyped]  # noqa: E402

COMPRESSED, TEXT = 1 << 3, 1 << 4
"""Two of the flags with which it marks its values."""


@contextmanager
def connected(*servers: str, **options: Any) -> Iterator[Any]:
    """A client of these servers; at the end none of them may have been given up as dead."""
    client = memcache.Client(list(servers), socket_timeout=TIMEOUT, **options)
    try:
        yield client
        assert [server.deaduntil for server in client.servers] == [0] * len(servers)
    finally:
        client.disconnect_all()


def name_of(server: RunningServer) -> str:
    """The server as this client names it."""
    return f"{server.host}:{server.port}"


@pytest.fixture
def client(server: RunningServer) -> Iterator[Any]:
    """A client that remembers CAS ids."""
    with connected(name_of(server), cache_cas=True) as remembering:
        yield remembering


@pytest.mark.parametrize(
    "value",
    ["text", "ünïcode 鍵", "", b"bytes", b"\r\nEND\r\n\x00\xff", 42, -(2**80), 1.5, None, {"a": [1, (2, None)]}, True],
)
def test_what_is_set_is_got_with_its_type(client: Any, value: object) -> None:
    assert client.set("key", value) is True
    got = client.get("key", "default")
    assert (got, type(got)) == (value, type(value))
    assert client.get_multi(["key", "nothing"]) == {"key": value}


def test_what_is_missing_is_the_default(client: Any) -> None:
    assert client.get("key") is None
    assert client.get("key", "default") == "default"
    assert client.gets("key") is None
    assert client.get_multi(["key", "other"]) == {}


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
    assert client.delete("key") == 1
    assert client.delete("key") == 0
    assert client.get("key") is None


def test_commands_without_replies_do_the_same(client: Any) -> None:
    client.set("key", "b", noreply=True)
    client.add("key", "z", noreply=True)
    client.replace("nothing", "z", noreply=True)
    client.append("key", "c", noreply=True)
    client.prepend("key", "a", noreply=True)
    assert client.get("key") == "abc"
    client.set("number", 10, noreply=True)
    client.incr("number", 5, noreply=True)
    client.decr("number", 1, noreply=True)
    client.incr("key", 1, noreply=True)
    assert client.get("number") == 14
    client.touch("number", -1, noreply=True)
    client.delete("key", noreply=True)
    client.delete("key", noreply=True)
    assert client.get_multi(["key", "number"]) == {}
    assert client.set_multi({"a": 1, "b": 2}, noreply=True) == []
    assert client.get_multi(["a", "b"]) == {"a": 1, "b": 2}
    assert client.delete_multi(["a", "b", "c"], noreply=True) == 1
    assert client.get_multi(["a", "b"]) == {}


def test_many_keys_are_set_got_and_deleted_at_once(client: Any) -> None:
    values = {f"many-{number}": number for number in range(500)}
    assert client.set_multi(values) == []
    assert client.get_multi([*values, "nothing"]) == values
    assert client.delete_multi([*values, "nothing"]) == 1
    assert client.get_multi(values) == {}


def test_the_old_form_of_delete_with_a_time_is_understood(client: Any) -> None:
    client.set_multi({"a": "1", "b": "2"})
    assert client.delete_multi(["a", "b"], time=0) == 1
    assert client.get_multi(["a", "b"]) == {}


def test_a_prefix_is_put_before_the_keys_of_many(client: Any) -> None:
    assert client.set_multi({"a": "x", 42: "y"}, key_prefix="app:") == []
    assert client.get_multi(["a", 42, "b"], key_prefix="app:") == {"a": "x", 42: "y"}
    assert client.get_multi(["app:a", "app:42"]) == {"app:a": "x", "app:42": "y"}
    assert client.delete_multi(["a"], key_prefix="app:") == 1
    assert client.get("app:a") is None


@pytest.mark.parametrize("key", ["k" * 250, "schlüssel", "鍵🔑", b"\x80\xfe\xff", "~!\u00a0"])
def test_every_key_that_it_allows_is_stored(client: Any, key: str | bytes) -> None:
    assert client.set(key, "x") is True
    assert client.get(key) == "x"
    assert client.get_multi([key]) == {key: "x"}
    assert client.delete(key) == 1


@pytest.mark.parametrize("key", ["k" * 251, "with space", "with\nline", "\x7f"])
def test_other_keys_never_reach_the_server(client: Any, key: str) -> None:
    with pytest.raises(memcache.Client.MemcachedKeyError):
        client.set(key, "x")
    assert client.set("key", "x") is True


def test_cas_stores_only_what_nobody_changed(client: Any, server: RunningServer) -> None:
    client.set("key", "old")
    assert client.gets("key") == "old"
    assert client.cas("key", "new") is True
    assert client.cas("key", "newer") is False
    assert client.gets("key") == "new"
    with connected(name_of(server)) as other:
        other.set("key", "theirs")
    assert client.cas("key", "mine") is False
    assert client.get("key") == "theirs"
    client.gets("key")
    client.delete("key")
    assert client.cas("key", "mine") is False
    client.reset_cas()
    assert client.cas("key", "unasked") is True


def test_numbers_are_counted_up_and_down(client: Any) -> None:
    assert client.incr("number") is None
    assert client.decr("number") is None
    client.set("number", 10)
    assert client.incr("number") == 11
    assert client.incr("number", 9) == 20
    assert client.decr("number", 11) == 9
    assert client.get("number") == 9
    assert client.decr("number", 100) == 0
    assert client.incr("number", 2**64 - 1) == 2**64 - 1
    assert client.incr("number", 2) == 1


def test_counting_what_is_no_number_raises(client: Any) -> None:
    client.set("word", "abc")
    with pytest.raises(ValueError, match="non-numeric"):
        client.incr("word")
    assert client.get("word") == "abc"


def test_touch_changes_the_lifetime(client: Any) -> None:
    client.set("touched", "x", time=1)
    client.set("short", "x", time=timedelta(seconds=1))
    client.set("absolute", "x", time=int(time.time()) + 1000)
    client.set("past", "x", time=int(time.time()) - 1000)
    assert client.touch("touched", 1000) == 1
    assert client.touch("nothing", 1000) == 0
    assert client.get("past") is None
    poll_until(lambda: client.get("short") is None, "the key expires")
    assert client.get_multi(["touched", "short", "absolute"]) == {"touched": "x", "absolute": "x"}


def test_long_values_are_compressed_and_come_back(client: Any, server: RunningServer) -> None:
    value = "compressible " * 100_000
    assert client.set("long", value, min_compress_len=100) is True
    assert client.set("short", "x" * 50, min_compress_len=100) is True
    assert client.get_multi(["long", "short"]) == {"long": value, "short": "x" * 50}
    assert client.set_multi({"many": value}, min_compress_len=100) == []
    assert client.get("many") == value
    with Wire(server) as wire:
        assert wire.ask(b"get long\r\n").startswith(b"VALUE long %d " % (COMPRESSED | TEXT))
        assert wire.ask(b"get short\r\n").startswith(b"VALUE short %d 50\r\n" % TEXT)


def test_large_values_come_back_whole(client: Any) -> None:
    value = bytes(range(256)) * 4000
    assert client.set("large", value) is True
    assert client.get("large") == value
    assert client.set_multi({f"large-{number}": value for number in range(5)}) == []
    assert client.get_multi([f"large-{number}" for number in range(5)]) == {
        f"large-{number}": value for number in range(5)
    }


def test_a_value_too_large_is_refused_and_the_old_one_is_gone(client: Any) -> None:
    client.set("large", "old")
    assert client.set("large", bytes(1024 * 1024)) is False
    assert client.get("large") is None
    assert client.set_multi({"small": "x", "large": bytes(1024 * 1024), "other": "y"}) == ["large"]
    assert client.get_multi(["small", "large", "other"]) == {"small": "x", "other": "y"}


def test_stats_come_from_each_server(make_server: MakeServer) -> None:
    server = make_server()
    with connected(name_of(server)) as client:
        client.set("key", "x" * 100)
        [(name, stats)] = client.get_stats()
        [(_, settings)] = client.get_stats("settings")
        [(_, items)] = client.get_stats("items")
    assert name == f"{name_of(server)} (1)"
    assert stats["version"] == server.version
    assert stats["curr_items"] == "1"
    assert re.fullmatch(r"\d+\.\d{6}", stats["rusage_user"])
    assert settings["item_size_max"] == str(1024 * 1024)
    assert [value for name, value in items.items() if re.fullmatch(r"items:\d+:number", name)] == ["1"]


def test_slab_stats_are_taken_apart(client: Any) -> None:
    client.set("key", "x" * 100)
    [(_, slabs)] = client.get_slab_stats()
    assert int(slabs.pop("active_slabs")) == len(slabs) - 1
    assert int(slabs.pop("total_malloced")) > 0
    assert all(slab.isdigit() and int(figures["chunk_size"]) > 0 for slab, figures in slabs.items())


def test_flush_all_empties_the_server(client: Any) -> None:
    client.set("key", "x")
    client.flush_all()
    assert client.get("key") is None


def test_quit_is_answered_by_closing(client: Any) -> None:
    client.set("key", "x")
    client.quit_all()
    assert client.servers[0].socket is None
    assert client.get("key") == "x"


def test_a_connection_closed_by_the_server_is_opened_again(make_server: MakeServer) -> None:
    server = make_server()
    client = memcache.Client([name_of(server)], socket_timeout=TIMEOUT, dead_retry=0)
    with closing(server.connect()):
        client.set("key", "x")
        client.servers[0].send_cmd("quit")
        assert client.get("key") == "x"
    client.disconnect_all()


def test_keys_are_spread_over_several_servers(make_server: MakeServer) -> None:
    servers = [make_server() for _ in range(3)]
    values = {f"spread-{number}": number for number in range(300)}
    with connected(*(name_of(server) for server in servers)) as client:
        assert client.set_multi(values) == []
        assert client.get_multi(values) == values
        shares = [int(stats["curr_items"]) for _, stats in client.get_stats()]
        assert (sum(shares), min(shares) > 0) == (300, True)
        assert client.incr("spread-1") == 2
        client.flush_all()
        assert client.get_multi(values) == {}


def test_a_server_that_is_gone_is_given_up_and_the_others_go_on(make_server: MakeServer) -> None:
    servers = [make_server() for _ in range(2)]
    client = memcache.Client([name_of(server) for server in servers], socket_timeout=TIMEOUT)
    client.set_multi({f"key-{number}": "x" for number in range(50)})
    servers[0].kill()
    for number in range(50):
        client.set(f"key-{number}", "y")
        client.set(f"key-{number}", "y")
    assert [server.deaduntil > 0 for server in client.servers] == [True, False]
    assert client.get_multi([f"key-{number}" for number in range(50)]) == {f"key-{number}": "y" for number in range(50)}
    client.disconnect_all()


def test_a_unix_socket_is_a_server_like_any_other(make_server: MakeServer) -> None:
    with TemporaryDirectory(prefix="kv") as directory:
        path = str(Path(directory, "s"))
        make_server(unix=path)
        with connected(f"unix:{path}") as client:
            assert client.set("key", "x" * 100_000) is True
            assert client.get("key") == "x" * 100_000


def _has_ipv6() -> bool:
    try:
        free_port("::1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 loopback on this machine")
def test_an_ipv6_address_is_a_server_like_any_other(make_server: MakeServer) -> None:
    server = make_server(host="::1")
    with connected(f"inet6:[::1]:{server.port}") as client:
        assert client.set("key", "x") is True
        assert client.get("key") == "x"
