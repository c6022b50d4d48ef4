"""python-binary-memcached (bmemcached), a client that speaks only the binary protocol, against both servers."""

import bz2
import importlib
import re
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.integration.client_library import TIMEOUT, require
from tests.integration.conftest import MakeServer
from tests.integration.sasl import OTHER_PASSWORD, OTHER_USER, PASSWORD, USER, SaslServer, sasl_server
from tests.integration.wire import OURS, RunningServer, Wire, poll_until

require("bmemcached")

bmemcached: Any = importlib.import_module("bmemcached")
MemcachedException: Any = importlib.import_module("bmemcached.exceptions").MemcachedException

TOO_LARGE, INVALID_ARGUMENTS, NOT_A_NUMBER, AUTH_FAILURE = 3, 4, 6, 32
"""Statuses of the binary protocol."""

TEXT, INTEGER, COMPRESSED, BYTES = 0, 2, 8, 16
"""The flags with which this client marks the type of a value."""


def name_of(server: RunningServer | SaslServer) -> str:
    """The server as this client names it."""
    unix = server.unix if isinstance(server, RunningServer) else None
    return unix or f"{server.host}:{server.port}"


@contextmanager
def connected(*servers: RunningServer | SaslServer, spread: bool = False, **options: Any) -> Iterator[Any]:
    """A client of these servers: a copy of all on each, or each key on one of them."""
    client_class = bmemcached.DistributedClient if spread else bmemcached.Client
    client = client_class([name_of(server) for server in servers], **{"socket_timeout": TIMEOUT} | options)
    try:
        yield client
    finally:
        client.disconnect_all()


@contextmanager
def refused(status: int) -> Iterator[None]:
    """Demand that the server answers with this status."""
    with pytest.raises(MemcachedException) as caught:
        yield
    assert caught.value.code == status


@pytest.fixture
def client(server: RunningServer) -> Iterator[Any]:
    """A client of the shared server."""
    with connected(server) as made:
        yield made


@pytest.mark.parametrize(
    "value",
    [
        "text",
        "ünïcode 鍵",
        "",
        b"bytes",
        b"\x80\x81\r\nEND\r\n\x00\xff",
        42,
        -7,
        2**70,
        1.5,
        True,
        {"a": [1, (2, None)]},
    ],
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
    assert client.get_multi(["key"]) == {}


def test_the_storage_commands_do_what_they_say(client: Any) -> None:
    assert client.replace("key", "1") is False
    assert client.add("key", "a") is True
    assert client.add("key", "z") is False
    assert client.get("key") == "a"
    assert client.replace("key", "b") is True
    assert client.get("key") == "b"
    assert client.delete("key") is True
    assert client.get("key") is None


@pytest.mark.parametrize("key", ["k", "k" * 250, "schlüssel", "with space", "line\r\nend", b"\x80\x00\xff"])
def test_every_key_that_the_protocol_allows_is_stored(client: Any, key: str | bytes) -> None:
    assert client.set(key, "x") is True
    assert client.get(key) == "x"
    assert client.get_multi([key, "other"]) == {key: "x"}
    assert client.delete(key) is True
    assert client.get(key) is None


@pytest.mark.parametrize("key", ["k" * 251, ""], ids=["too long", "empty"])
def test_a_key_that_it_does_not_allow_is_refused(client: Any, key: str) -> None:
    with refused(INVALID_ARGUMENTS):
        client.set(key, "x")
    client.disconnect_all()  # the server has closed the connection
    assert client.set("key", "next") is True
    assert client.get("key") == "next"


def test_many_keys_are_set_got_and_deleted_at_once(client: Any) -> None:
    values = {f"many-{number}": number for number in range(500)}
    assert client.set_multi(values) == []
    assert client.get_multi([*values, "nothing"]) == values
    assert client.get_multi(["nothing", *values]) == values
    assert client.delete_multi(list(values)) is True
    assert client.delete_multi(["many-0"]) is False
    assert client.get_multi(list(values)) == {}


def test_many_keys_are_stored_only_where_their_numbers_fit(client: Any) -> None:
    client.set("changed", "old")
    number = client.gets("changed")[1]
    client.set("changed", "new")
    client.set("there", "x")
    assert sorted(client.set_multi({("there", 0): "y", ("new", 0): "y", "plain": "y"})) == [("there", 0)]
    assert client.get_multi(["there", "new", "plain"]) == {"there": "x", "new": "y", "plain": "y"}
    numbers = client.set_multi_cas({("changed", number): "z", "plain": "z", ("there", 0): "z"})
    assert (numbers["changed"], numbers["there"]) == (None, None)
    assert client.get_multi(["changed", "plain"], get_cas=True)["plain"] == ("z", numbers["plain"])
    assert client.get("changed") == "new"


def test_cas_stores_only_what_nobody_changed(client: Any) -> None:
    client.set("key", "old")
    value, number = client.gets("key")
    assert value == "old"
    assert client.cas("key", "new", number) is True
    assert client.cas("key", "newer", number) is False
    assert client.get("key") == "new"
    client.delete("key")
    assert client.cas("key", "x", number) is False
    assert client.get("key") is None


def test_every_change_tells_the_number_of_what_it_stored(client: Any) -> None:
    stored, number = client.set("key", "a", get_cas=True)
    assert (stored, client.gets("key")) == (True, ("a", number))
    stored, second = client.cas("key", "b", number, get_cas=True)
    assert (stored, client.gets("key")) == (True, ("b", second))
    assert second != number
    stored, third = client.replace("key", "c", get_cas=True)
    assert (stored, client.gets("key")) == (True, ("c", third))
    assert client.add("key", "d", get_cas=True) == (False, None)
    stored, fourth = client.add("other", "d", get_cas=True)
    assert (stored, client.gets("other")) == (True, ("d", fourth))
    assert len({number, second, third, fourth}) == 4


def test_delete_takes_a_number_too(client: Any) -> None:
    client.set("key", "old")
    number = client.gets("key")[1]
    client.set("key", "new")
    assert client.delete("key", cas=number) is False
    assert client.get("key") == "new"
    assert client.delete("key", cas=client.gets("key")[1]) is True
    assert client.get("key") is None


def test_numbers_are_counted_up_and_down(client: Any) -> None:
    assert client.incr("number", 5, default=7) == 7
    assert client.incr("number", 5) == 12
    assert client.incr("number", 0) == 12
    assert client.decr("number", 2) == 10
    assert client.decr("number", 100) == 0
    assert client.decr("fresh", 5, default=3) == 3
    assert client.incr("large", 1, default=2**64 - 1) == 2**64 - 1
    assert client.incr("large", 2) == 1
    client.set("set", 41)
    assert client.incr("set", 1) == 42
    assert client.get("set") == 42


def test_a_counted_number_expires_as_it_was_first_asked(client: Any) -> None:
    assert client.incr("short", 1, default=5, time=1) == 5
    assert client.incr("lasting", 1, default=5, time=1000) == 5
    poll_until(lambda: client.get_multi(["short", "lasting"]) == {"lasting": "5"}, "the number expires")


def test_a_missing_number_is_not_made_when_that_is_forbidden(client: Any) -> None:
    with refused(1):
        client.incr("nothing", 1, default=5, time=0xFFFFFFFF)
    with refused(1):
        client.decr("nothing", 1, default=5, time=0xFFFFFFFF)
    assert client.get("nothing") is None


def test_counting_what_is_no_number_is_refused(client: Any) -> None:
    client.set("word", "abc")
    with refused(NOT_A_NUMBER):
        client.incr("word", 1)
    with refused(NOT_A_NUMBER):
        client.decr("word", 1)
    assert client.get("word") == "abc"


def test_keys_expire(client: Any) -> None:
    client.set("short", "x", time=1)
    client.add("added", "x", time=1)
    client.set_multi({"many": "x"}, time=1)
    client.set("absolute", "x", time=int(time.time()) + 1000)
    client.set("past", "x", time=int(time.time()) - 1000)
    client.set("long", "x", time=1000)
    client.set("always", "x", time=0)
    client.set("replaced", "x", time=1)
    client.replace("replaced", "x", time=1000)
    lasting = {"absolute": "x", "long": "x", "always": "x", "replaced": "x"}
    assert client.get("past") is None
    poll_until(lambda: client.get_multi(["short", "added", "many"]) == {}, "the keys expire")
    assert client.get_multi([*lasting, "past"]) == lasting


@pytest.mark.parametrize("size", [0, 1, 24, 4096, 65_535, 65_536, 1_000_000])
def test_values_of_every_size_come_back_whole(client: Any, size: int) -> None:
    value = (bytes(range(256)) * (size // 256 + 1))[:size]
    assert client.set("large", value, compress_level=0) is True
    assert client.get("large") == value
    many = {f"large-{number}": value[number:] for number in range(5)}
    assert client.set_multi(many, compress_level=0) == []
    assert client.get_multi(list(many)) == many


def test_a_value_too_large_is_refused_and_the_old_one_is_gone(client: Any) -> None:
    client.set("large", "old")
    with refused(TOO_LARGE):
        client.set("large", bytes(1024 * 1024), compress_level=0)
    assert client.get("large") is None
    assert client.set("large", "small") is True
    assert client.get("large") == "small"


@pytest.mark.parametrize("options", [{}, {"compression": bz2}], ids=["zlib", "bz2"])
def test_long_values_are_compressed_and_come_back(server: RunningServer, options: dict[str, Any]) -> None:
    value = "compressible " * 100_000
    with connected(server, **options) as client, Wire(server) as wire:
        assert client.set("long", value) is True
        assert client.set("best", value, compress_level=9) is True
        assert client.set_multi({"many": value}) == []
        assert client.get_multi(["long", "best", "many"]) == {"long": value, "best": value, "many": value}
        reply = wire.ask(b"get long\r\n")
        assert reply.startswith(b"VALUE long %d " % COMPRESSED)
        assert len(reply) < 100_000


def test_raw_data_leaves_flags_alone(server: RunningServer) -> None:
    with connected(server, raw_data=True) as client, Wire(server) as wire:
        wire.expect(b"set theirs 4294967295 0 3\r\nabc\r\n", b"STORED\r\n")
        assert client.get("theirs") == b"abc"
        client.set("ours", b"x" * 1000)
        wire.expect(b"get ours\r\n", b"VALUE ours 0 1000\r\n" + b"x" * 1000 + b"\r\nEND\r\n")


def test_stats_come_from_each_server(client: Any, server: RunningServer) -> None:
    client.set("key", "x")
    client.get("key")
    stats = client.stats()[name_of(server)]
    assert (stats["pid"], stats["version"]) == (str(server.pid).encode(), server.version.encode())
    assert (int(stats["curr_items"]) >= 1, stats["limit_maxbytes"]) == (True, b"67108864")
    with Wire(server) as wire:
        text = wire.stats()
    assert set(text) == set(stats)
    assert int(text["cmd_set"]) == int(stats["cmd_set"]) > 0
    assert int(text["get_hits"]) == int(stats["get_hits"]) > 0


def without_classes(stats: Iterable[str]) -> set[str]:
    """The names without the numbers of slab classes: a class may become empty between two answers."""
    return {re.sub(r"\d+", "N", name) for name in stats}


@pytest.mark.parametrize("group", ["settings", "items", "slabs"])
def test_a_group_of_stats_has_the_same_names_as_in_text(client: Any, server: RunningServer, group: str) -> None:
    client.set("key", "x")
    with Wire(server) as wire:
        stats = client.stats(group)[name_of(server)]
        text = wire.stats(group.encode())
    assert without_classes(stats) == without_classes(text)
    assert len(stats) > 1


def test_unknown_stats_are_not_found(server: RunningServer) -> None:
    with connected(server, socket_timeout=0.5) as client:  # it waits for more after the error
        assert client.stats("nonsense") == {name_of(server): {"": b"Not found"}}
        assert client.set("key", "x") is True


def test_stats_can_be_reset(client: Any, server: RunningServer) -> None:
    client.set("key", "x")
    assert client.stats("reset") == {name_of(server): {}}
    assert client.stats()[name_of(server)]["cmd_set"] == b"0"
    assert client.get("key") == "x"


def test_flush_all_empties_the_server(client: Any) -> None:
    client.set("key", "x")
    assert client.flush_all() is True
    assert client.get("key") is None
    client.set("key", "y")
    assert client.get("key") == "y"


def test_flush_all_may_wait(client: Any) -> None:
    client.set("key", "x")
    assert client.flush_all(2) is True
    assert client.get("key") == "x"
    poll_until(lambda: client.get("key") is None, "the flush happens")


def test_a_connection_for_each_thread_serves_many_at_once(client: Any) -> None:
    client.set("total", 0)

    def work(number: int) -> bool:
        try:
            for turn in range(20):
                client.set(f"thread-{number}", turn)
                client.incr("total", 1)
                if client.get(f"thread-{number}") != turn:
                    return False
            return True
        finally:
            client.disconnect_all()  # of this thread

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(8))) == [True] * 8
    assert client.get("total") == 160


def test_a_client_connects_again_after_it_was_cut_off(client: Any) -> None:
    client.set("key", "x")
    client.disconnect_all()
    assert client.get("key") == "x"


def test_keys_are_spread_over_several_servers(make_server: MakeServer) -> None:
    servers = [make_server() for _ in range(3)]
    with connected(*servers, spread=True) as client:
        values = {f"spread-{number}": number for number in range(300)}
        assert client.set_multi(values) == []
        assert client.get_multi(list(values)) == values
        shares = [int(stats["curr_items"]) for stats in client.stats().values()]
        assert (sum(shares), min(shares) > 0) == (300, True)
        assert client.flush_all() is True
        assert client.get_multi(list(values)) == {}


def test_copies_of_all_keys_are_kept_on_several_servers(make_server: MakeServer) -> None:
    first, second = make_server(), make_server()
    with connected(first, second) as client:
        assert client.set("key", "x") is True
        for server in (first, second):
            with Wire(server) as wire:
                wire.expect(b"get key\r\n", b"VALUE key 0 1\r\nx\r\nEND\r\n")
        first.kill()
        assert client.get("key") == "x"


def test_a_unix_socket_is_a_server_like_any_other(make_server: MakeServer) -> None:
    with TemporaryDirectory(prefix="kv") as directory:
        with connected(make_server(unix=str(Path(directory, "s")))) as client:
            assert client.set("key", "x" * 100_000, compress_level=0) is True
            assert client.get("key") == "x" * 100_000


# Text and binary at once.


def test_text_and_binary_see_each_others_values_and_flags(client: Any, wire: Wire) -> None:
    client.set("number", 42)
    wire.expect(b"get number\r\n", b"VALUE number %d 2\r\n42\r\nEND\r\n" % INTEGER)
    client.set("bytes", b"\x00\r\n\xff")
    wire.expect(b"get bytes\r\n", b"VALUE bytes %d 4\r\n\x00\r\n\xff\r\nEND\r\n" % BYTES)
    wire.expect(b"set number %d 0 3\r\n123\r\n" % INTEGER, b"STORED\r\n")
    assert client.get("number") == 123
    wire.expect(b"set number %d 0 3\r\n123\r\n" % TEXT, b"STORED\r\n")
    assert client.get("number") == "123"
    wire.expect(b"append number 0 0 1\r\n4\r\n", b"STORED\r\n")
    assert client.incr("number", 1) == 1235
    wire.expect(b"incr number 5\r\n", b"1240\r\n")
    assert client.decr("number", 240) == 1000
    wire.expect(b"get number\r\n", b"VALUE number 0 4\r\n1000\r\nEND\r\n")
    wire.expect(b"delete number\r\n", b"DELETED\r\n")
    assert client.get("number") is None
    client.delete("bytes")
    wire.expect(b"get bytes\r\n", b"END\r\n")
    client.incr("made", 1, default=7)
    wire.expect(b"get made\r\n", b"VALUE made 0 1\r\n7\r\nEND\r\n")


def test_text_and_binary_see_each_others_cas_numbers(client: Any, wire: Wire) -> None:
    _, number = client.set("key", "a", get_cas=True)
    assert wire.cas_of(b"key") == number
    wire.expect(b"cas key 0 0 1 %d\r\nb\r\n" % number, b"STORED\r\n")
    assert client.cas("key", "c", number) is False
    value, number = client.gets("key")
    assert (value, number) == ("b", wire.cas_of(b"key"))
    assert client.cas("key", "c", number) is True
    wire.expect(b"cas key 0 0 1 %d\r\nd\r\n" % number, b"EXISTS\r\n")
    wire.expect(b"mg key v\r\n", b"VA 1\r\nc\r\n")
    assert client.delete("key", cas=wire.cas_of(b"key")) is True


def test_text_and_binary_see_each_others_lifetimes(client: Any, wire: Wire) -> None:
    client.set("binary", "x", time=1000)
    client.set("always", "x")
    client.set("past", "x", time=1000)
    seconds = int(wire.ask(b"mg binary t\r\n").split()[1][1:])
    assert 900 < seconds <= 1000
    wire.expect(b"mg always t\r\n", b"HD t-1\r\n")
    wire.expect(b"touch past -1\r\n", b"TOUCHED\r\n")
    assert client.get("past") is None
    wire.expect(b"gat 1 binary\r\n", b"VALUE binary 0 1\r\nx\r\nEND\r\n")
    wire.expect(b"set text 0 1 1\r\nx\r\n", b"STORED\r\n")
    assert client.get("always") == "x"
    poll_until(lambda: client.get_multi(["binary", "text"]) == {}, "the keys expire")
    wire.expect(b"flush_all\r\n", b"OK\r\n")
    assert client.get("always") is None
    wire.expect(b"set text 0 0 1\r\nx\r\n", b"STORED\r\n")
    client.flush_all()
    wire.expect(b"get text\r\n", b"END\r\n")


def test_text_and_binary_count_together_and_lose_nothing(server: RunningServer) -> None:
    turns = 100

    def text(_: int) -> int:
        last = 0
        with Wire(server) as wire:
            for _turn in range(turns):
                last = max(last, int(wire.ask(b"incr total 1\r\n")))
        return last

    def binary(_: int) -> int:
        with connected(server) as client:
            return max(int(client.incr("total", 1)) for _turn in range(turns))

    with Wire(server) as wire:
        wire.expect(b"set total 0 0 1\r\n0\r\n", b"STORED\r\n")
        with ThreadPoolExecutor(8) as threads:
            work: list[Callable[[int], int]] = [text, binary] * 4
            lasts = list(threads.map(lambda one: one(0), work))
        assert max(lasts) == 8 * turns
        wire.expect(b"get total\r\n", b"VALUE total 0 3\r\n800\r\nEND\r\n")


def test_text_and_binary_change_one_value_by_cas_and_lose_nothing(server: RunningServer) -> None:
    turns = 25

    def text(mark: str) -> None:
        with Wire(server) as wire:
            for _ in range(turns):
                stored = False
                while not stored:
                    head, value = wire.ask(b"gets list\r\n").split(b"\r\n")[:2]
                    changed = value + mark.encode()
                    words = b"cas list 0 0 %d %s\r\n%s\r\n" % (len(changed), head.split()[-1], changed)
                    stored = wire.ask(words) == b"STORED\r\n"

    def binary(mark: str) -> None:
        with connected(server) as client:
            for _ in range(turns):
                stored = False
                while not stored:
                    value, number = client.gets("list")
                    stored = client.cas("list", value + mark, number, compress_level=0)

    with connected(server) as client:
        client.set("list", "-")
        with ThreadPoolExecutor(4) as threads:
            done = [threads.submit(text if mark in "ab" else binary, mark) for mark in "abcd"]
            for one in done:
                one.result()
        value = client.get("list")
    assert {mark: value.count(mark) for mark in "-abcd"} == {"-": 1} | dict.fromkeys("abcd", turns)


def test_many_connections_of_both_protocols_are_open_at_once(server: RunningServer) -> None:
    with ExitStack() as stack:
        binaries = [stack.enter_context(connected(server)) for _ in range(20)]
        wires = [stack.enter_context(Wire(server)) for _ in range(20)]
        for number, (client, wire) in enumerate(zip(binaries, wires, strict=True)):
            assert client.set(f"binary-{number}", number) is True
            wire.expect(b"set text-%d 2 0 2\r\n%02d\r\n" % (number, number), b"STORED\r\n")
        for number, (client, wire) in enumerate(zip(reversed(binaries), reversed(wires), strict=True)):
            assert client.get(f"text-{number}") == number
            value = b"%d" % number
            reply = b"VALUE binary-%d 2 %d\r\n%s\r\nEND\r\n" % (number, len(value), value)
            wire.expect(b"get binary-%d\r\n" % number, reply)


# With a login.


@pytest.fixture
def guarded(kind: str, tmp_path: Path) -> Iterator[SaslServer]:
    """A server that lets in only who logs in."""
    with sasl_server(kind, tmp_path) as server:
        yield server


@pytest.mark.parametrize(("name", "password"), [(USER, PASSWORD), (OTHER_USER, OTHER_PASSWORD)])
def test_with_the_right_password_everything_works(guarded: SaslServer, name: str, password: str) -> None:
    with connected(guarded, username=name, password=password) as client:
        assert client.set("key", "x") is True
        assert client.get("key") == "x"
        values = {f"many-{number}": number for number in range(100)}
        assert client.set_multi(values) == []
        assert client.get_multi(list(values)) == values
        assert client.incr("total", 1, default=5) == 5
        assert client.set("large", b"x" * 1_000_000, compress_level=0) is True
        assert client.get("large") == b"x" * 1_000_000
        assert client.delete("key") is True
        assert "version" in client.stats()[name_of(guarded)]
        client.disconnect_all()
        assert client.get("total") == "5"
        assert client.flush_all() is True


@pytest.mark.parametrize(
    ("name", "password"),
    [
        (USER, "wrong"),
        (USER, PASSWORD + "x"),
        (USER, PASSWORD[:-1]),
        (USER, OTHER_PASSWORD),
        ("nobody", PASSWORD),
        (USER.upper(), PASSWORD),
    ],
)
def test_with_a_wrong_name_or_password_nothing_works(guarded: SaslServer, name: str, password: str) -> None:
    with connected(guarded, username=USER, password=PASSWORD) as client:
        client.set("key", "x")
        with connected(guarded, username=name, password=password) as intruder, refused(AUTH_FAILURE):
            intruder.set("key", "changed")
        assert client.get("key") == "x"


def test_without_a_login_nothing_works(guarded: SaslServer) -> None:
    with connected(guarded, username=USER, password=PASSWORD) as client:
        client.set("key", "x")
        with connected(guarded) as stranger:
            attempts: list[Callable[[], object]] = [
                lambda: stranger.get("key"),
                lambda: stranger.set("key", "changed"),
                lambda: stranger.add("other", "x"),
                lambda: stranger.delete("key"),
                lambda: stranger.incr("number", 1),
                lambda: stranger.get_multi(["key"]),
                lambda: stranger.flush_all(),
            ]
            for attempt in attempts:
                with refused(AUTH_FAILURE):
                    attempt()
                stranger.disconnect_all()
            assert client.get_multi(["key", "other", "number"]) == {"key": "x"}


def test_a_name_and_password_do_no_harm_where_nobody_asks_for_them(server: RunningServer) -> None:
    with connected(server, username=USER, password=PASSWORD) as client:
        assert client.set("key", "x") is True
        assert client.get("key") == "x"


def test_users_log_in_by_text_and_by_binary_at_once(tmp_path: Path) -> None:
    """On ours alone: memcached has no text where it has SASL."""
    with sasl_server(OURS, tmp_path) as server, connected(server, username=USER, password=PASSWORD) as client:
        client.set("key", "x")
        with server.connect() as text, text.makefile("rb") as replies:
            text.sendall(b"get key\r\n")
            assert replies.readline() == b"CLIENT_ERROR unauthenticated\r\n"
            login = f"{OTHER_USER} {OTHER_PASSWORD}".encode()
            text.sendall(b"set login 0 0 %d\r\n%s\r\n" % (len(login), login))
            assert replies.readline() == b"STORED\r\n"
            text.sendall(b"get key\r\nset key 0 0 1\r\ny\r\n")
            assert [replies.readline() for _ in range(4)] == [b"VALUE key 0 1\r\n", b"x\r\n", b"END\r\n", b"STORED\r\n"]
        assert client.get("key") == "y"
        stranger = struct.pack("!BBHBBHLLQ", 0x80, 0x00, 3, 0, 0, 0, 3, 0, 0) + b"key"
        with server.connect() as other:  # that the text connection is in lets no other one in
            other.sendall(stranger)
            assert other.recv(24)[6:8] == AUTH_FAILURE.to_bytes(2, "big")
