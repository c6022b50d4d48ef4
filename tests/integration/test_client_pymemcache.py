"""The stock pymemcache clients against both servers."""

import json
import math
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from pymemcache import serde  # type: ignore[import-untyped]
from pymemcache.client.base import Client, PooledClient  # type: ignore[import-untyped]
from pymemcache.client.hash import HashClient  # type: ignore[import-untyped]
from pymemcache.client.retrying import RetryingClient  # type: ignore[import-untyped]
from pymemcache.exceptions import (  # type: ignore[import-untyped]
    MemcacheClientError,
    MemcacheError,
    MemcacheIllegalInputError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
    MemcacheUnknownCommandError,
)

from tests.integration.client_library import TIMEOUT
from tests.integration.conftest import MakeServer
from tests.integration.wire import RunningServer, Wire, poll_until
from tests.ports import free_port


@pytest.fixture(params=[True, False], ids=["noreply", "reply"])
def client(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Any]:
    """A plain client, once for each default of noreply."""
    with closing(Client(server.address, default_noreply=request.param, timeout=TIMEOUT)) as plain:
        yield plain


@pytest.fixture
def asking(server: RunningServer) -> Iterator[Any]:
    """A plain client which waits for every reply."""
    with closing(Client(server.address, default_noreply=False, timeout=TIMEOUT)) as plain:
        yield plain


def test_what_is_set_is_got(client: Any) -> None:
    assert client.set("key", b"value") is True
    assert client.get("key") == b"value"
    assert client.get("nothing") is None
    assert client.get("nothing", "default") == "default"
    client["item"] = b"x"
    assert client["item"] == b"x"
    del client["item"]
    assert client.get("item") is None


def test_the_storage_commands_do_what_they_say(asking: Any) -> None:
    assert asking.replace("key", b"1") is False
    assert asking.append("key", b"1") is False
    assert asking.add("key", b"b") is True
    assert asking.add("key", b"c") is False
    assert asking.append("key", b"c") is True
    assert asking.prepend("key", b"a") is True
    assert asking.get("key") == b"abc"
    assert asking.replace("key", b"new") is True
    assert asking.get("key") == b"new"


def test_the_storage_commands_without_replies_do_it_too(client: Any) -> None:
    client.add("key", b"b")
    client.add("key", b"z")
    client.append("key", b"c")
    client.prepend("key", b"a")
    client.append("nothing", b"x")
    assert client.get_many(["key", "nothing"]) == {"key": b"abc"}
    client.delete("key")
    client.delete("key")
    assert client.get("key") is None


def test_many_keys_are_set_got_and_deleted_at_once(client: Any) -> None:
    values = {f"many-{number}": b"%d" % number for number in range(500)}
    assert client.set_many(values) == []
    assert client.get_many([*values, "nothing"]) == values
    found = client.gets_many(list(values))
    assert {key: value for key, (value, _) in found.items()} == values
    assert len({number for _, number in found.values()}) == 500
    assert client.delete_many(list(values)) is True
    assert client.get_many(list(values)) == {}


def test_cas_stores_only_what_nobody_changed(asking: Any) -> None:
    assert asking.gets("key") == (None, None)
    assert asking.cas("key", b"x", b"1") is None
    asking.set("key", b"old")
    value, number = asking.gets("key")
    assert value == b"old"
    assert asking.cas("key", b"new", number) is True
    assert asking.cas("key", b"newer", number) is False
    assert asking.get("key") == b"new"


def test_numbers_are_counted_up_and_down(asking: Any) -> None:
    assert asking.incr("number", 1) is None
    asking.set("number", b"10")
    assert asking.incr("number", 5) == 15
    assert asking.decr("number", 20) == 0
    assert asking.incr("number", 2**64 - 1) == 2**64 - 1
    assert asking.incr("number", 2) == 1
    asking.incr("number", 1, noreply=True)
    assert asking.get("number").strip() == b"2"


def test_counting_what_is_no_number_raises(asking: Any) -> None:
    asking.set("word", b"abc")
    with pytest.raises(MemcacheClientError, match="non-numeric"):
        asking.incr("word", 1)
    with pytest.raises(MemcacheClientError, match="invalid numeric delta"):
        asking.incr("word", -1)
    assert asking.get("word") == b"abc"


def test_touch_and_expire_set_the_lifetime(client: Any) -> None:
    client.set("touched", b"x", expire=1)
    assert client.touch("touched", 1000) is True
    client.set("short", b"x", expire=1)
    client.set("past", b"x", expire=-1)
    assert client.get("past") is None
    poll_until(lambda: client.get("short") is None, "the key expires")
    assert client.get("touched") == b"x"
    assert client.touch("nothing", 1, noreply=False) is False


def test_gat_and_gats_are_understood_as_raw_commands(asking: Any) -> None:
    asking.set("key", b"x", flags=3)
    assert asking.raw_command(b"gat 1000 key", b"END\r\n") == b"VALUE key 3 1\r\nx\r\n"
    _, number = asking.gets("key")
    expected = b"VALUE key 3 1 " + number + b"\r\nx\r\n"
    assert asking.raw_command(b"gats -1 key", b"END\r\n") == expected
    assert asking.get("key") is None


def test_flush_all_empties_the_server(client: Any) -> None:
    client.set("key", b"x")
    assert client.flush_all() is True
    assert client.get("key") is None
    client.set("key", b"y")
    assert client.get("key") == b"y"


def test_stats_are_parsed_into_numbers(asking: Any) -> None:
    asking.set("key", b"x")
    stats = asking.stats()
    assert isinstance(stats[b"curr_items"], int)
    assert isinstance(stats[b"rusage_user"], float)
    assert isinstance(stats[b"rusage_system"], float)
    assert math.isfinite(stats[b"rusage_user"])
    assert stats[b"threads"] >= 1
    assert stats[b"limit_maxbytes"] == 64 * 1024 * 1024
    assert stats[b"version"] == asking.version()
    settings = asking.stats("settings")
    assert settings[b"item_size_max"] == 1024 * 1024
    assert (settings[b"umask"], settings[b"growth_factor"]) == (0o700, 1.25)
    assert settings[b"auth_enabled_sasl"] is False
    assert asking.stats("sizes") == {b"sizes_status": b"disabled"}


def test_the_version_is_that_of_the_server(asking: Any, server: RunningServer) -> None:
    assert asking.version() == server.version.encode()


def test_the_memory_limit_is_changed(asking: Any) -> None:
    assert asking.cache_memlimit(128) is True
    assert asking.stats()[b"limit_maxbytes"] == 128 * 1024 * 1024


def test_a_large_value_comes_back_whole(client: Any) -> None:
    value = bytes(range(256)) * 3600
    client.set("large", value)
    assert client.get("large") == value


def test_a_value_too_large_raises_and_leaves_the_connection_usable(asking: Any) -> None:
    with pytest.raises(MemcacheServerError, match="object too large for cache"):
        asking.set("large", bytes(1024 * 1024))
    assert asking.set("small", b"x") is True
    assert asking.get_many(["large", "small"]) == {"small": b"x"}


@pytest.mark.parametrize("key", ["k" * 251, "with space", "with\nline", "ключ"])
def test_a_bad_key_is_refused_by_the_client_itself(asking: Any, key: str) -> None:
    with pytest.raises(MemcacheIllegalInputError):
        asking.set(key, b"x")
    assert asking.set("k" * 250, b"x") is True


def test_an_unknown_command_raises(asking: Any) -> None:
    with pytest.raises(MemcacheUnknownCommandError):
        asking._misc_cmd([b"nonsense\r\n"], b"nonsense", False)


def test_quit_ends_the_connection_and_the_next_command_opens_another(asking: Any) -> None:
    asking.set("key", b"x")
    asking.quit()
    assert asking.get("key") == b"x"


def test_shutdown_ends_a_server_that_allows_it(make_server: MakeServer) -> None:
    running = make_server("-A")
    with closing(Client(running.address, timeout=TIMEOUT)) as plain:
        plain.shutdown()
    assert running.process.wait(60) == 0


def test_shutdown_is_refused_where_it_is_not_allowed(asking: Any) -> None:
    with pytest.raises(MemcacheError):
        asking.shutdown()
    assert asking.set("key", b"x") is True


def test_a_key_prefix_is_put_before_every_key(server: RunningServer, asking: Any) -> None:
    with closing(Client(server.address, key_prefix=b"app:", timeout=TIMEOUT)) as prefixed:
        prefixed.set("a", b"1")
        prefixed.set_many({"b": b"2"})
        assert prefixed.get_many(["a", "b"]) == {"a": b"1", "b": b"2"}
    assert asking.get_many(["a", "app:a", "app:b"]) == {"app:a": b"1", "app:b": b"2"}


def test_unicode_keys_are_kept_apart(server: RunningServer) -> None:
    keys = ["schlüssel", "ключ", "鍵", "🔑", "schlussel"]
    with closing(Client(server.address, allow_unicode_keys=True, timeout=TIMEOUT)) as unicode:
        unicode.set_many({key: key.encode() for key in keys})
        assert unicode.get_many(keys) == {key: key.encode() for key in keys}


def test_pickled_values_come_back_as_they_were(server: RunningServer) -> None:
    values: list[object] = ["text", b"bytes", 42, 2**80, {"a": [1, 2, (3, None)]}, 1.5, "ünïcode"]
    with closing(Client(server.address, serde=serde.pickle_serde, timeout=TIMEOUT)) as pickling:
        for value in values:
            pickling.set("object", value)
            assert pickling.get("object") == value


class JsonSerde:
    """Values as JSON, known again by their flags."""

    def serialize(self, _key: object, value: object) -> tuple[bytes, int]:
        """Strings are kept as they are, everything else becomes JSON."""
        if isinstance(value, str):
            return value.encode(), 1
        return json.dumps(value).encode(), 2**31

    def deserialize(self, _key: object, value: bytes, flags: int) -> object:
        """The opposite."""
        return value.decode() if flags == 1 else json.loads(value) if flags == 2**31 else ("unknown", flags)


def test_a_serializer_of_ones_own_gets_its_flags_back(server: RunningServer) -> None:
    values = {"text": "plain", "object": {"a": [1, None]}, "number": 7}
    with closing(Client(server.address, serde=JsonSerde(), timeout=TIMEOUT)) as client:
        client.set_many(values)
        assert client.get_many(list(values)) == values
        assert {key: value for key, (value, _) in client.gets_many(list(values)).items()} == values


def test_compressed_values_come_back_as_they_were(server: RunningServer, asking: Any) -> None:
    value = "compressible " * 100_000
    with closing(Client(server.address, serde=serde.compressed_serde, timeout=TIMEOUT)) as compressing:
        assert compressing.set("long", value, noreply=False) is True
        compressing.set("short", "x")
        assert compressing.get_many(["long", "short"]) == {"long": value, "short": "x"}
    assert len(asking.get("long")) < 100_000


def test_a_pool_serves_many_threads_at_once(server: RunningServer) -> None:
    pool = PooledClient(server.address, max_pool_size=8, default_noreply=False, timeout=TIMEOUT)

    def work(number: int) -> bool:
        key = f"thread-{number}"
        for round_number in range(20):
            pool.set(key, b"%d" % round_number)
            pool.incr("total", 1)
            if pool.get(key) != b"%d" % round_number:
                return False
        return True

    try:
        pool.set("total", b"0")
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(work, range(8))) == [True] * 8
        assert pool.get("total") == b"160"
    finally:
        pool.close()


@pytest.fixture(params=["plain", "pooled", "hash", "pooled hash"])
def every(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Any]:
    """Each of the clients that spread or pool their connections, waiting for every reply."""
    options = {"default_noreply": False, "timeout": TIMEOUT}
    with closing(
        {
            "plain": lambda: Client(server.address, **options),
            "pooled": lambda: PooledClient(server.address, max_pool_size=4, **options),
            "hash": lambda: HashClient([server.address], **options),
            "pooled hash": lambda: HashClient([server.address], use_pooling=True, **options),
        }[request.param]()
    ) as client:
        yield client


def test_every_client_has_the_same_commands(every: Any) -> None:
    assert every.replace("key", b"1") is False
    assert every.add("key", b"b") is True
    assert every.add("key", b"z") is False
    assert every.append("key", b"c") is True
    assert every.prepend("key", b"a") is True
    assert every.get("key") == b"abc"
    assert every.replace("key", b"5") is True
    assert every.incr("key", 2) == 7
    assert every.decr("key", 10) == 0
    assert every.touch("key", 1000) is True
    assert every.touch("nothing", 1000) is False
    value, number = every.gets("key")
    assert value == b"0"
    assert every.cas("key", b"new", number) is True
    assert every.cas("key", b"newer", number) is False
    assert every.set_many({"a": b"1", "b": b"2"}) == []
    assert every.get_many(["a", "b", "c"]) == {"a": b"1", "b": b"2"}
    assert {key: found[0] for key, found in every.gets_many(["a", "b", "c"]).items()} == {"a": b"1", "b": b"2"}
    assert every.delete_many(["a", "b", "c"]) is True
    assert every.delete("key") is True
    assert every.delete("key") is False
    every.set("key", b"x")
    every.flush_all()
    assert every.get("key", "default") == "default"


def test_every_client_can_go_without_replies(every: Any) -> None:
    every.set("key", b"b", noreply=True)
    every.add("key", b"z", noreply=True)
    every.append("key", b"c", noreply=True)
    every.prepend("key", b"a", noreply=True)
    every.set_many({"a": b"1", "b": b"2"}, noreply=True)
    every.incr("a", 5, noreply=True)
    every.decr("b", 5, noreply=True)
    every.touch("b", -1, noreply=True)
    every.cas("key", b"never", b"1", noreply=True)
    poll_until(lambda: every.get_many(["key", "a", "b"]) == {"key": b"abc", "a": b"6"}, "all is carried out")
    every.delete("key", noreply=True)
    every.delete_many(["a", "nothing"], noreply=True)
    poll_until(lambda: every.get_many(["key", "a"]) == {}, "all is deleted")


@pytest.mark.parametrize("encoding", ["utf8", "latin-1", "koi8-r"])
def test_keys_are_written_in_the_encoding_of_the_client(server: RunningServer, encoding: str) -> None:
    key = {"utf8": "鍵🔑", "latin-1": "schlüssel", "koi8-r": "ключ"}[encoding]
    with closing(Client(server.address, encoding=encoding, allow_unicode_keys=True, timeout=TIMEOUT)) as client:
        client.set(key, b"x", noreply=False)
        assert client.get_many([key, "other"]) == {key: b"x"}
    with Wire(server) as wire:
        raw = key.encode("utf8")
        wire.expect(b"get " + raw + b"\r\n", b"VALUE " + raw + b" 0 1\r\nx\r\nEND\r\n")


@pytest.mark.parametrize("flags", [0, 1, 2**16, 2**32 - 1])
def test_flags_outlive_every_change(server: RunningServer, asking: Any, flags: int) -> None:
    asking.set("key", b"5", flags=flags)
    asking.append("key", b"0")
    asking.incr("key", 1)
    asking.touch("key", 1000)
    with Wire(server) as wire:
        wire.expect(b"get key\r\n", b"VALUE key %d 2\r\n51\r\nEND\r\n" % flags)


def test_a_lifetime_can_be_a_point_in_time(asking: Any) -> None:
    now = int(time.time())
    asking.set("past", b"x", expire=now - 10)
    asking.set("soon", b"x", expire=now + 2)
    asking.set("later", b"x", expire=now + 1000)
    asking.set("month", b"x", expire=60 * 60 * 24 * 30)
    assert asking.get("past") is None
    poll_until(lambda: asking.get("soon") is None, "the key expires")
    assert asking.get_many(["past", "soon", "later", "month"]) == {"later": b"x", "month": b"x"}


def test_a_delayed_flush_waits(asking: Any) -> None:
    asking.set("key", b"x")
    assert asking.flush_all(delay=2) is True
    assert asking.get("key") == b"x"
    poll_until(lambda: asking.get("key") is None, "the flush happens")
    poll_until(lambda: asking.set("key", b"y") and asking.get("key") == b"y", "values are kept again")


def test_numbers_have_their_limits(asking: Any) -> None:
    asking.set("number", b"18446744073709551615")
    assert asking.incr("number", 1) == 0
    assert asking.get("number").strip() == b"0"
    asking.set("number", b"18446744073709551616")
    with pytest.raises(MemcacheClientError, match="non-numeric"):
        asking.incr("number", 1)
    asking.set("number", b"10")
    assert asking.decr("number", 1) == 9
    assert asking.get("number") == b"9 "
    with pytest.raises(MemcacheClientError, match="invalid numeric delta"):
        asking.incr("number", 2**64)
    assert asking.incr("number", 0) == 9


def test_a_memory_limit_that_is_none_is_refused(asking: Any) -> None:
    with pytest.raises(MemcacheError):
        asking.cache_memlimit("many")
    assert asking.stats()[b"limit_maxbytes"] == 64 * 1024 * 1024


@pytest.mark.parametrize("of", ["items", "slabs", "sizes", "conns", "settings"])
def test_every_kind_of_stats_is_answered(asking: Any, of: str) -> None:
    asking.set("key", b"x")
    stats = asking.stats(of)
    assert stats
    assert all(isinstance(name, bytes) for name in stats)


def test_reset_stats_begin_again(asking: Any) -> None:
    asking.set("key", b"x")
    asking.get("key")
    assert asking.stats()[b"get_hits"] >= 1
    assert asking.raw_command(b"stats reset") == b"RESET"
    assert asking.stats()[b"get_hits"] == 0


def test_values_of_every_size_come_back_whole(every: Any) -> None:
    sizes = [0, 1, 100, 4095, 4096, 65_536, 500_000, 1_000_000]
    values = {f"size-{size}": bytes(range(256)) * (size // 256) + b"x" * (size % 256) for size in sizes}
    assert every.set_many(values) == []
    assert every.get_many(list(values)) == values


@pytest.mark.parametrize("use_pooling", [False, True])
def test_a_hash_client_spreads_keys_over_its_servers(make_server: MakeServer, use_pooling: bool) -> None:
    servers = [make_server() for _ in range(3)]
    client = HashClient(
        [server.address for server in servers], use_pooling=use_pooling, default_noreply=False, timeout=TIMEOUT
    )
    values = {f"spread-{number}": b"%d" % number for number in range(300)}
    try:
        assert client.set_many(values) == []
        assert client.get_many(list(values)) == values
        shares = [_items(server) for server in servers]
        assert (sum(shares), min(shares) > 0) == (300, True)
        assert client.delete("spread-0") is True
        assert client.incr("spread-1", 1) == 2
        client.flush_all()
        assert client.get_many(list(values)) == {}
    finally:
        client.close()


def _items(server: RunningServer) -> int:
    with Wire(server) as wire:
        return int(wire.stats()["curr_items"])


def test_a_hash_client_goes_on_without_a_server_that_died(make_server: MakeServer) -> None:
    servers = [make_server() for _ in range(3)]
    client = HashClient([server.address for server in servers], ignore_exc=True, retry_attempts=0, timeout=TIMEOUT)
    try:
        servers[0].kill()
        for number in range(100):
            client.set(f"key-{number}", b"x", noreply=False)
        for number in range(100):
            client.set(f"key-{number}", b"y", noreply=False)
        assert client.get_many([f"key-{number}" for number in range(100)]) == {
            f"key-{number}": b"y" for number in range(100)
        }
    finally:
        client.close()


def test_a_retrying_client_survives_the_loss_of_its_connection(server: RunningServer) -> None:
    inner = Client(server.address, default_noreply=False, timeout=TIMEOUT)
    client = RetryingClient(inner, attempts=3, retry_delay=0.01, retry_for=[MemcacheUnexpectedCloseError, OSError])
    try:
        assert client.set("key", b"x") is True
        inner.sock.shutdown(socket.SHUT_RDWR)
        assert client.get("key") == b"x"
    finally:
        inner.close()


def test_a_client_of_a_server_that_is_gone_raises(make_server: MakeServer) -> None:
    running = make_server()
    with closing(Client(running.address, timeout=TIMEOUT)) as client:
        client.set("key", b"x")
        assert client.get("key") == b"x"
        running.kill()
        with pytest.raises((MemcacheUnexpectedCloseError, OSError)):
            client.get("key")
        with pytest.raises(OSError):
            client.get("key")


def test_a_client_with_a_timeout_is_always_answered_in_time(server: RunningServer) -> None:
    with closing(Client(server.address, timeout=TIMEOUT, connect_timeout=TIMEOUT, no_delay=True)) as client:
        for number in range(500):
            client.set("key", b"%d" % number, noreply=number % 2 == 0)
            assert client.get("key") == b"%d" % number


def test_a_unix_socket_is_a_server_like_any_other(make_server: MakeServer) -> None:
    with TemporaryDirectory(prefix="kv") as directory:
        path = str(Path(directory, "s"))
        make_server(unix=path)
        for address in (path, f"unix:{path}"):
            with closing(Client(address, default_noreply=False, timeout=TIMEOUT)) as client:
                assert client.set("key", b"x" * 100_000) is True
                assert client.get("key") == b"x" * 100_000


def _has_ipv6() -> bool:
    try:
        free_port("::1")
    except OSError:
        return False
    return sys.platform != "win32"


@pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 loopback on this machine")
def test_an_ipv6_address_is_a_server_like_any_other(make_server: MakeServer) -> None:
    running = make_server(host="::1")
    for address in (("::1", running.port), f"[::1]:{running.port}"):
        with closing(Client(address, default_noreply=False, timeout=TIMEOUT)) as client:
            assert client.set("key", b"x") is True
            assert client.get("key") == b"x"
