"""The client meta-memcache, which speaks nothing but the meta commands, against both servers."""

import logging
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.integration.client_library import TIMEOUT, require
from tests.integration.conftest import MakeServer
from tests.integration.wire import RunningServer, Wire, poll_until

require("meta_memcache", last_python=(3, 13))

from meta_memcache.cache_client import CacheClient  # noqa: E402
from meta_memcache.configuration import (  # noqa: E402
    LeasePolicy,
    MigrationMode,
    RecachePolicy,
    ServerAddress,
    StalePolicy,
)
from meta_memcache.connection.pool import ConnectionPool  # noqa: E402
from meta_memcache.errors import MemcacheError, MemcacheServerError  # noqa: E402
from meta_memcache.extras.migrating_cache_client import MigratingCacheClient  # noqa: E402
from meta_memcache.interfaces.cache_api import CacheApi  # noqa: E402
from meta_memcache.protocol import Key, RequestFlags, SetMode  # noqa: E402
from meta_memcache_socket import Conflict, Miss, NotStored, Success, Value  # noqa: E402

STALE = StalePolicy(mark_stale_on_deletion_ttl=30, mark_stale_on_cas_mismatch=True)
RECACHE = RecachePolicy(ttl=30)
LEASE = LeasePolicy(ttl=30, miss_retries=3, miss_retry_wait=1.0)


class Pools:
    """Connections for clients, all closed at the end."""

    def __init__(self) -> None:
        self._built: list[ConnectionPool] = []

    def __call__(self, address: ServerAddress) -> ConnectionPool:
        def connect() -> socket.socket:
            return socket.create_connection((address.host, address.port), TIMEOUT)

        pool = ConnectionPool(
            str(address), connect, initial_pool_size=1, max_pool_size=3, read_buffer_size=2 * 1024 * 1024
        )
        self._built.append(pool)
        return pool

    def close(self) -> None:
        """Close the connections that wait in the pools; a test leaves no others."""
        for pool in self._built:
            while pool.get_counters().available:
                pool.pop_connection().close()


@pytest.fixture
def pools() -> Iterator[Pools]:
    """Where the clients of a test have their connections from."""
    with closing(Pools()) as made:
        yield made


def address_of(server: RunningServer) -> ServerAddress:
    """Where the server listens, as this client names it."""
    return ServerAddress(server.host, server.port)


MakeClient = Callable[..., CacheApi]


@pytest.fixture
def connect(pools: Pools) -> MakeClient:
    """Make a client of some servers."""

    def make(*servers: RunningServer) -> CacheApi:
        return CacheClient.cache_client_from_servers([address_of(server) for server in servers], pools)

    return make


@pytest.fixture
def client(connect: MakeClient, server: RunningServer) -> CacheApi:
    """A client of the shared server."""
    return connect(server)


@pytest.fixture
def other(connect: MakeClient, server: RunningServer) -> CacheApi:
    """A second one."""
    return connect(server)


VALUES = ["text", "ünïcode 鍵", "x" * 5000, b"bytes", b"\r\nEN\r\n\x00\xff", 42, -7, 2**70, 1.5, {"a": [1, (2, None)]}]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_what_is_set_is_got_with_its_type(client: CacheApi, value: object) -> None:
    assert client.set("key", value, ttl=1000) is True
    got = client.get("key")
    assert (got, type(got)) == (value, type(value))
    assert client.multi_get(["key"]) == {Key("key"): value}
    assert client.get_typed("key", type(value)) == value


def test_what_is_missing_is_none(client: CacheApi) -> None:
    assert client.get("key") is None
    assert client.get_cas("key") == (None, None)
    assert client.multi_get(["key"]) == {Key("key"): None}
    assert client.get_typed("key", str) is None


def test_a_value_of_another_type_is_no_value(client: CacheApi) -> None:
    client.set("key", "text", ttl=1000)
    assert client.get_typed("key", int) is None
    with pytest.raises(ValueError, match="Expecting"):
        client.get_typed("key", int, error_on_type_mismatch=True)
    value, number = client.get_cas_typed("key", str)
    assert (value, number is None) == ("text", False)


@pytest.mark.parametrize("key", ["k" * 250, "schlüssel", "鍵🔑", "with space", "with\r\nline", "k" * 1000])
def test_keys_of_any_characters_are_kept_apart(client: CacheApi, key: str) -> None:
    assert client.set(key, "x", ttl=1000) is True
    assert client.get(key) == "x"
    assert client.multi_get([key, "other"]) == {Key(key): "x", Key("other"): None}
    assert client.delete(key) is True
    assert client.delete(key) is False
    assert client.delta_initialize(key, 1, 7, 1000) is True
    assert client.get(key) == "7"


def test_each_mode_of_set_does_what_it_says(client: CacheApi) -> None:
    for refused in (SetMode.REPLACE, SetMode.APPEND, SetMode.PREPEND):
        assert client.set("key", "1", ttl=1000, set_mode=refused) is False
    assert client.set("key", "b", ttl=1000, set_mode=SetMode.ADD) is True
    assert client.set("key", "z", ttl=1000, set_mode=SetMode.ADD) is False
    assert client.set("key", "c", ttl=1000, set_mode=SetMode.APPEND) is True
    assert client.set("key", "a", ttl=1000, set_mode=SetMode.PREPEND) is True
    assert client.get("key") == "abc"
    assert client.set("key", "new", ttl=1000, set_mode=SetMode.REPLACE) is True
    assert client.set("key", "newer", ttl=1000, set_mode=SetMode.SET) is True
    assert client.get("key") == "newer"
    assert client.refill("key", "refilled", ttl=1000) is False
    assert client.refill("other", "refilled", ttl=1000) is True
    assert client.multi_get(["key", "other"]) == {Key("key"): "newer", Key("other"): "refilled"}


def test_cas_stores_only_what_nobody_changed(client: CacheApi) -> None:
    client.set("key", "old", ttl=1000)
    value, number = client.get_cas("key")
    assert (value, number is None) == ("old", False)
    assert client.set("key", "new", ttl=1000, cas_token=number) is True
    assert client.set("key", "newer", ttl=1000, cas_token=number) is False
    assert client.get("key") == "new"
    assert client.set("nothing", "x", ttl=1000, cas_token=number) is False
    assert client.get("nothing") is None


def test_a_set_returns_the_number_to_go_on_with(client: CacheApi) -> None:
    first = client.set_cas("key", "1", ttl=1000)
    assert first is not None
    assert client.get_cas("key") == ("1", first)
    second = client.set_cas("key", "2", ttl=1000, cas_token=first)
    assert second is not None
    assert second > first
    assert client.set_cas("key", "3", ttl=1000, cas_token=first) is None
    assert client.multi_get_cas(["key", "nothing"]) == {Key("key"): ("2", second), Key("nothing"): (None, None)}


def test_cas_guards_deletions_and_counting_too(client: CacheApi) -> None:
    client.set("key", "5", ttl=1000)
    number = client.get_cas("key")[1]
    assert number is not None
    assert client.delta("key", 1, cas_token=number + 1) is False
    assert client.delta("key", 1, cas_token=number) is True
    assert client.delta_and_get("key", 1, cas_token=number) is None
    assert client.delete("key", cas_token=number) is False
    assert client.invalidate("key", cas_token=number) is False
    assert client.delete("key", cas_token=client.get_cas("key")[1]) is True
    assert client.invalidate("key", cas_token=number) is True


def test_invalidating_what_is_not_there_succeeds(client: CacheApi) -> None:
    client.set("key", "x", ttl=1000)
    assert client.invalidate("key") is True
    assert client.invalidate("key") is True
    assert client.delete("key") is False


def test_what_was_invalidated_is_stale_and_one_client_renews_it(client: CacheApi, other: CacheApi) -> None:
    client.set("key", "old", ttl=1000)
    assert client.invalidate("key", stale_policy=STALE) is True
    assert client.get("key") is None
    assert other.get("key") == "old"
    assert client.get("key") == "old"
    renewed = client.meta_get(Key("key"), RequestFlags(return_value=True, return_ttl=True))
    assert isinstance(renewed, Value)
    assert (renewed.flags.stale, renewed.flags.win) == (True, False)
    assert renewed.flags.ttl is not None
    assert 20 < renewed.flags.ttl <= 30
    assert client.set("key", "new", ttl=1000) is True
    assert (client.get("key"), other.get("key")) == ("new", "new")


def test_the_winner_of_a_stale_value_can_renew_it_by_cas(client: CacheApi) -> None:
    before = client.set_cas("key", "old", ttl=1000)
    assert client.delete("key", stale_policy=STALE) is True
    value, number = client.get_cas("key")
    assert value is None
    assert number != before
    assert client.set("key", "late", ttl=1000, cas_token=before) is False
    assert client.set("key", "new", ttl=1000, cas_token=number) is True
    assert client.get("key") == "new"


def test_a_late_write_is_kept_as_a_stale_value(client: CacheApi, other: CacheApi) -> None:
    number = client.set_cas("key", "old", ttl=1000)
    other.set("key", "new", ttl=1000)
    assert client.set("key", "late", ttl=1000, cas_token=number, stale_policy=STALE) is True
    assert client.get("key") is None
    assert other.get("key") == "late"
    assert other.set("key", "newest", ttl=1000) is True
    assert client.get("key") == "newest"


def test_near_its_end_one_client_renews_a_value(client: CacheApi, other: CacheApi) -> None:
    client.set("soon", "old", ttl=20)
    client.set("later", "old", ttl=1000)
    assert client.get("later", recache_policy=RECACHE) == "old"
    assert client.get("soon", recache_policy=RECACHE) is None
    assert other.get("soon", recache_policy=RECACHE) == "old"
    assert client.multi_get(["soon", "later"], recache_policy=RECACHE) == {Key("soon"): "old", Key("later"): "old"}
    client.set("soon", "new", ttl=1000)
    assert other.get_cas("soon", recache_policy=RECACHE)[0] == "new"


def test_of_those_who_miss_one_has_the_lease_and_the_others_wait(client: CacheApi, other: CacheApi) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            assert client.set("key", "value", ttl=1000) is True

    assert client.get_or_lease("key", LEASE) is None
    assert other.get_or_lease("key", LEASE, lease_wait_fn=wait) == "value"
    assert waits == [1.0, 1.2]
    assert client.get_or_lease("key", LEASE) == "value"


def test_those_who_wait_for_a_lease_give_up(client: CacheApi, other: CacheApi) -> None:
    waits: list[float] = []
    value, number = client.get_or_lease_cas("key", LEASE)
    assert (value, number is None) == (None, False)
    assert other.get_or_lease_cas("key", LEASE, lease_wait_fn=waits.append)[0] is None
    assert len(waits) == 2
    assert other.get("key") is None
    assert client.set("key", "value", ttl=1000, cas_token=number) is True
    assert other.get_or_lease_cas("key", LEASE)[0] == "value"


def test_a_lease_ends(client: CacheApi) -> None:
    short = LeasePolicy(ttl=1)
    assert client.get_or_lease("key", short) is None
    poll_until(lambda: client.get_cas("key") == (None, None), "the lease expires")
    number = client.get_or_lease_cas("key", short)[1]
    assert client.set("key", "value", ttl=1000, cas_token=number) is True
    assert client.get("key") == "value"


def _ttl(client: CacheApi, key: str) -> int | None:
    found = client.meta_get(Key(key), RequestFlags(return_ttl=True))
    assert isinstance(found, Success)
    return found.flags.ttl


def test_touch_changes_the_lifetime(client: CacheApi) -> None:
    for key in ("touched", "fetched", "many", "short", "forever"):
        client.set(key, "x", ttl=1)
    assert client.touch("touched", ttl=1000) is True
    assert client.touch("nothing", ttl=1000) is False
    assert client.get("fetched", touch_ttl=1000) == "x"
    assert client.multi_get(["many"], touch_ttl=1000) == {Key("many"): "x"}
    assert client.touch("forever", ttl=0) is True
    poll_until(lambda: client.get("short") is None, "the key expires")
    for key in ("touched", "fetched", "many"):
        assert (_ttl(client, key) or 0) > 900, key
    assert _ttl(client, "forever") == -1


def test_numbers_are_counted_up_and_down(client: CacheApi) -> None:
    assert client.delta("number", 1) is False
    assert client.delta_and_get("number", 1) is None
    client.set("number", "10", ttl=1000)
    assert client.delta("number", 5) is True
    assert client.delta_and_get("number", -3) == 12
    assert client.delta_and_get("number", -100) == 0
    assert client.delta_and_get("number", 2**64 - 1) == 2**64 - 1
    assert client.delta_and_get("number", 3) == 2
    assert client.delta("number", 1, refresh_ttl=50) is True
    assert (_ttl(client, "number") or 0) <= 50


def test_a_number_is_begun_where_there_is_none(client: CacheApi) -> None:
    assert client.delta_initialize("number", 1, initial_value=100, initial_ttl=1000) is True
    assert client.delta_initialize("number", 1, initial_value=100, initial_ttl=1000) is True
    assert client.delta_and_get("number", 1) == 102
    assert client.delta_initialize_and_get("other", -5, initial_value=2**64 - 1, initial_ttl=40) == 2**64 - 1
    assert client.delta_initialize_and_get("other", -5, initial_value=0, initial_ttl=40) == 2**64 - 6
    assert (_ttl(client, "other") or 0) <= 40
    assert client.delta_initialize_and_get("zero", 5, initial_value=0, initial_ttl=0) == 0
    assert _ttl(client, "zero") == -1
    assert client.delta_initialize_and_get("zero", 5, initial_value=0, initial_ttl=0, refresh_ttl=60) == 5
    assert 50 < (_ttl(client, "zero") or 0) <= 60


def test_counting_what_is_no_number_raises(client: CacheApi, caplog: pytest.LogCaptureFixture) -> None:
    client.set("word", "abc", ttl=1000)
    with caplog.at_level(logging.CRITICAL), pytest.raises(MemcacheError):
        client.delta("word", 1)
    assert client.get("word") == "abc"


def test_many_keys_are_got_at_once(client: CacheApi) -> None:
    values = {f"many-{number}": "v" * number for number in range(1, 301)}
    for key, value in values.items():
        client.set(key, value, ttl=1000, no_reply=True)
    assert client.multi_get([*values, "nothing"]) == {Key(key): value for key, value in values.items()} | {
        Key("nothing"): None
    }
    numbers = {number for _, number in client.multi_get_cas(values).values()}
    assert len(numbers) == 300


def test_commands_without_replies_do_the_same(client: CacheApi) -> None:
    assert client.set("key", "b", ttl=1000, no_reply=True) is True
    client.set("key", "z", ttl=1000, no_reply=True, set_mode=SetMode.ADD)
    client.set("key", "c", ttl=1000, no_reply=True, set_mode=SetMode.APPEND)
    client.set("key", "a", ttl=1000, no_reply=True, set_mode=SetMode.PREPEND)
    client.set("nothing", "z", ttl=1000, no_reply=True, set_mode=SetMode.REPLACE)
    client.refill("key", "z", ttl=1000, no_reply=True)
    assert client.multi_get(["key", "nothing"]) == {Key("key"): "abc", Key("nothing"): None}
    client.set("number", "5", ttl=1000, no_reply=True)
    client.delta("number", 3, no_reply=True)
    client.delta("nothing", 3, no_reply=True)
    client.delta_initialize("begun", 3, 9, 1000, no_reply=True)
    client.touch("number", ttl=2000, no_reply=True)
    client.touch("nothing", ttl=2000, no_reply=True)
    assert client.multi_get(["number", "begun"]) == {Key("number"): "8", Key("begun"): "9"}
    assert (_ttl(client, "number") or 0) > 1500
    client.delete("key", no_reply=True)
    client.delete("key", no_reply=True)
    client.invalidate("number", no_reply=True)
    assert client.multi_get(["key", "number"]) == {Key("key"): None, Key("number"): None}


def test_the_meta_commands_tell_what_is_known_of_an_item(client: CacheApi) -> None:
    number = client.set_cas("key", "12345", ttl=0)
    everything = RequestFlags(
        return_value=True,
        return_ttl=True,
        return_client_flag=True,
        return_last_access=True,
        return_fetched=True,
        return_cas_token=True,
        return_size=True,
        return_key=True,
        opaque=b"o123",
    )
    first = client.meta_get(Key("key"), everything)
    assert isinstance(first, Value)
    assert (first.value, first.size, first.flags.size) == ("12345", 5, 5)
    assert (first.flags.ttl, first.flags.cas_token, first.flags.client_flag) == (-1, number, 0)
    assert (first.flags.fetched, first.flags.win, first.flags.stale, first.flags.opaque) == (
        False,
        None,
        False,
        b"o123",
    )
    assert first.flags.last_access is not None
    assert first.flags.last_access < 100
    second = client.meta_get(Key("key"), RequestFlags(return_fetched=True, return_size=True))
    assert isinstance(second, Success)
    assert not isinstance(second, Value)
    assert (second.flags.fetched, second.flags.size) == (True, 5)
    assert isinstance(client.meta_get(Key("nothing"), everything), Miss)


def test_a_look_without_a_trace_leaves_an_item_unfetched(client: CacheApi) -> None:
    client.set("key", "x", ttl=1000)
    for _ in range(2):
        found = client.meta_get(Key("key"), RequestFlags(return_fetched=True, no_update_lru=True))
        assert isinstance(found, Success)
        assert found.flags.fetched is False


def test_the_meta_commands_tell_why_they_did_nothing(client: CacheApi) -> None:
    client.set("key", "x", ttl=1000)
    wrong = RequestFlags(cas_token=1)
    assert isinstance(client.meta_set(Key("key"), "y", wrong), Conflict)
    assert isinstance(client.meta_delete(Key("key"), wrong), Conflict)
    assert isinstance(client.meta_set(Key("nothing"), "y", wrong), Miss)
    assert isinstance(client.meta_delete(Key("nothing"), wrong), Miss)
    assert isinstance(client.meta_arithmetic(Key("nothing")), Miss)
    assert isinstance(client.meta_set(Key("key"), "y", RequestFlags(mode=SetMode.ADD.value)), NotStored)
    assert isinstance(client.meta_set(Key("nothing"), "y", RequestFlags(mode=SetMode.REPLACE.value)), NotStored)


@pytest.mark.parametrize("flag", [1, 2**16, 2**32 - 1])
def test_client_flags_are_those_of_the_text_commands(client: CacheApi, server: RunningServer, flag: int) -> None:
    with Wire(server) as wire:
        wire.expect(b"set key %d 0 2\r\n42\r\n" % flag, b"STORED\r\n")
        found = client.meta_get(Key("key"), RequestFlags(return_client_flag=True))
        assert isinstance(found, Success)
        assert found.flags.client_flag == flag
        client.set("number", 7, ttl=0)
        wire.expect(b"get number\r\n", b"VALUE number 2 1\r\n7\r\nEND\r\n")


def test_large_values_come_back_whole(client: CacheApi) -> None:
    value = bytes((number * number + number // 256) % 251 for number in range(1_000_000))
    raw = Key("large", disabled_compression=True)
    assert client.set(raw, value, ttl=1000) is True
    assert client.get(raw) == value
    assert client.multi_get([raw, "nothing"]) == {raw: value, Key("nothing"): None}


def test_a_value_too_large_is_refused_and_the_old_one_is_gone(
    client: CacheApi, pools: Pools, server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    client.set("large", "old", ttl=1000)
    connection = pools(address_of(server)).pop_connection()
    with caplog.at_level(logging.CRITICAL), pytest.raises(ConnectionError, match="Unknown response"):
        connection.meta_set("large", bytes(1024 * 1024), RequestFlags())
    connection.close()
    assert client.get("large") is None


def test_the_classic_commands_share_the_connection(pools: Pools, server: RunningServer) -> None:
    pool = pools(address_of(server))
    with pool.get_connection() as connection:
        assert connection.raw_cmd(b"version") == b"VERSION " + server.version.encode()
        assert b"STAT curr_items " in connection.raw_cmd(b"stats", multi_line=True)
        assert isinstance(connection.meta_set("key", b"x", RequestFlags()), Success)
        assert connection.raw_cmd(b"touch key 100") == b"TOUCHED"
        assert connection.raw_cmd(b"flush_all") == b"OK"
        assert isinstance(connection.meta_get("key", RequestFlags()), Miss)


def test_many_threads_share_the_pool(client: CacheApi) -> None:
    def work(number: int) -> bool:
        for turn in range(20):
            client.set(f"thread-{number}", turn, ttl=1000)
            client.delta_initialize("total", 1, 1, 1000)
            if client.get(f"thread-{number}") != turn:
                return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(8))) == [True] * 8
    assert client.get("total") == "160"


def test_keys_are_spread_over_several_servers(connect: MakeClient, make_server: MakeServer) -> None:
    servers = [make_server() for _ in range(3)]
    client = connect(*servers)
    keys = [f"spread-{number}" for number in range(200)]
    for key in keys:
        assert client.set(key, key, ttl=1000) is True
    assert client.multi_get(keys) == {Key(key): key for key in keys}
    shares = []
    for server in servers:
        with Wire(server) as wire:
            shares.append(int(wire.stats()["curr_items"]))
    assert (sum(shares), min(shares) > 0) == (200, True)
    assert {counters.total_errors for counters in client.get_counters().values()} == {0}


def test_another_server_stands_in_for_one_that_is_gone(
    pools: Pools, make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    regular, gutter = make_server(), make_server()
    client = CacheClient.cache_client_with_gutter_from_servers(
        [address_of(regular)], [address_of(gutter)], gutter_ttl=60, connection_pool_factory_fn=pools
    )
    assert client.set("key", "x", ttl=1000) is True
    regular.kill()
    with caplog.at_level(logging.CRITICAL):
        assert client.get("key") is None
        assert client.set("key", "y", ttl=1000) is True
        assert client.get("key") == "y"
        assert 0 < (_ttl(client, "key") or 0) <= 60


def test_a_client_of_a_server_that_is_gone_raises(
    connect: MakeClient, make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()
    client = connect(server)
    client.set("key", "x", ttl=1000)
    server.kill()
    lost: list[Key] = []
    client.on_write_failure += lost.append
    with caplog.at_level(logging.CRITICAL), pytest.raises(MemcacheServerError):
        client.set("key", "y", ttl=1000)
    assert lost == [Key("key")]


def test_an_ephemeral_client_never_stores_for_long(pools: Pools, server: RunningServer) -> None:
    client = CacheClient.ephemeral_cache_client_from_servers(
        [address_of(server)], max_ttl=50, connection_pool_factory_fn=pools
    )
    client.set("key", "x", ttl=0)
    assert 0 < (_ttl(client, "key") or 0) <= 50


def test_a_migration_writes_to_both_servers(connect: MakeClient, make_server: MakeServer) -> None:
    origin, destination = connect(make_server()), connect(make_server())
    client = MigratingCacheClient(origin, destination, MigrationMode.POPULATE_WRITES)
    assert client.set("key", "x", ttl=1000) is True
    assert client.get("key") == "x"
    assert destination.get("key") == "x"
    assert client.delete("key") is True
    assert (origin.get("key"), destination.get("key")) == (None, None)
