"""The asynchronous client aiomcache against both servers."""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.integration.client_library import Loop, require
from tests.integration.wire import RunningServer, poll_until

require("aiomcache")

from aiomcache import Client, ClientException, FlagClient, ValidationException  # noqa: E402


@pytest.fixture
def loop() -> Iterator[Loop]:
    """The event loop of a test."""
    with closing(Loop()) as driven:
        yield driven


@pytest.fixture
def client(loop: Loop, server: RunningServer) -> Iterator[Client]:
    """A client with a pool of four connections."""
    pooled = Client(server.host, server.port, pool_size=4, pool_minsize=1)
    yield pooled
    loop(pooled.close())


def test_what_is_set_is_got(loop: Loop, client: Client) -> None:
    assert loop(client.get(b"key")) is None
    assert loop(client.get(b"key", b"default")) == b"default"
    assert loop(client.set(b"key", b"value")) is True
    assert loop(client.get(b"key")) == b"value"
    assert loop(client.set(b"key", b"")) is True
    assert loop(client.get(b"key", b"default")) == b""


@pytest.mark.parametrize("key", [b"k", b"k" * 250, "schlüssel".encode(), "鍵🔑".encode()])
def test_every_key_that_it_allows_is_stored(loop: Loop, client: Client, key: bytes) -> None:
    assert loop(client.set(key, b"x")) is True
    assert loop(client.get(key)) == b"x"
    assert loop(client.multi_get(key, b"other")) == (b"x", None)
    assert loop(client.delete(key)) is True


@pytest.mark.parametrize("key", [b"", b"k" * 251, b"with space", b"line\r\n"])
def test_other_keys_never_reach_the_server(loop: Loop, client: Client, key: bytes) -> None:
    with pytest.raises(ValidationException):
        loop(client.set(key, b"x"))
    assert loop(client.set(b"key", b"x")) is True


def test_the_storage_commands_do_what_they_say(loop: Loop, client: Client) -> None:
    assert loop(client.replace(b"key", b"1")) is False
    assert loop(client.append(b"key", b"1")) is False
    assert loop(client.prepend(b"key", b"1")) is False
    assert loop(client.add(b"key", b"b")) is True
    assert loop(client.add(b"key", b"z")) is False
    assert loop(client.append(b"key", b"c")) is True
    assert loop(client.prepend(b"key", b"a")) is True
    assert loop(client.get(b"key")) == b"abc"
    assert loop(client.replace(b"key", b"new")) is True
    assert loop(client.get(b"key")) == b"new"


def test_delete_tells_whether_there_was_something(loop: Loop, client: Client) -> None:
    loop(client.set(b"key", b"x"))
    assert loop(client.delete(b"key")) is True
    assert loop(client.delete(b"key")) is False


def test_cas_stores_only_what_nobody_changed(loop: Loop, client: Client) -> None:
    assert loop(client.gets(b"key")) == (None, None)
    assert loop(client.cas(b"key", b"x", 1)) is False
    loop(client.set(b"key", b"old"))
    value, number = loop(client.gets(b"key"))
    assert value == b"old"
    assert number is not None
    assert loop(client.cas(b"key", b"new", number)) is True
    assert loop(client.cas(b"key", b"newer", number)) is False
    assert loop(client.get(b"key")) == b"new"
    assert loop(client.gets(b"key"))[1] != number


def test_many_keys_are_got_at_once(loop: Loop, client: Client) -> None:
    keys = [b"many-%d" % number for number in range(300)]
    for key in keys[::2]:
        loop(client.set(key, key * 2))
    expected = tuple(key * 2 if index % 2 == 0 else None for index, key in enumerate(keys))
    assert loop(client.multi_get(*keys)) == expected
    assert loop(client.multi_get()) == ()


def test_numbers_are_counted_up_and_down(loop: Loop, client: Client) -> None:
    loop(client.set(b"number", b"10"))
    assert loop(client.incr(b"number")) == 11
    assert loop(client.incr(b"number", 2**63)) == 2**63 + 11
    assert loop(client.decr(b"number", 2**63)) == 11
    assert loop(client.decr(b"number", 12)) == 0
    assert loop(client.incr(b"number", 2**64 - 1)) == 2**64 - 1
    assert loop(client.incr(b"number", 3)) == 2


def test_counting_what_is_no_number_raises(loop: Loop, client: Client) -> None:
    loop(client.set(b"word", b"abc"))
    with pytest.raises(ClientException, match="non-numeric"):
        loop(client.incr(b"word"))
    with pytest.raises(ClientException, match="NOT_FOUND"):
        loop(client.decr(b"nothing"))
    with pytest.raises(ClientException, match="invalid numeric delta"):
        loop(client.incr(b"word", -1))
    assert loop(client.get(b"word")) == b"abc"


def test_touch_changes_the_lifetime(loop: Loop, client: Client) -> None:
    loop(client.set(b"touched", b"x", exptime=1))
    loop(client.set(b"short", b"y", exptime=1))
    assert loop(client.touch(b"touched", 1000)) is True
    assert loop(client.touch(b"nothing", 1000)) is False
    poll_until(lambda: loop(client.get(b"short")) is None, "the key expires")
    assert loop(client.get(b"touched")) == b"x"
    assert loop(client.touch(b"touched", -1)) is True
    assert loop(client.get(b"touched")) is None


def test_a_value_of_any_bytes_and_any_length_comes_back(loop: Loop, client: Client) -> None:
    for value in (bytes(range(256)), b"\r\nEND\r\n", b"x" * 100_000, bytes(range(256)) * 4000):
        assert loop(client.set(b"value", value)) is True
        assert loop(client.get(b"value")) == value


def test_a_value_too_large_is_refused_and_the_old_one_is_gone(loop: Loop, client: Client) -> None:
    loop(client.set(b"large", b"old"))
    with pytest.raises(ClientException, match="object too large for cache"):
        loop(client.set(b"large", bytes(1024 * 1024)))
    assert loop(client.get(b"large")) is None
    assert loop(client.set(b"large", b"small")) is True


def test_the_version_is_that_of_the_server(loop: Loop, client: Client, server: RunningServer) -> None:
    version = loop(client.version())
    assert version == server.version.encode()
    assert re.fullmatch(rb"\d+\.\d+\.\d+", version)


def test_stats_tell_what_happened(loop: Loop, client: Client) -> None:
    loop(client.set(b"key", b"x"))
    before = loop(client.stats())
    loop(client.get(b"key"))
    loop(client.get(b"nothing"))
    after = loop(client.stats())
    for name, change in ((b"get_hits", 1), (b"get_misses", 1), (b"cmd_get", 2), (b"cmd_set", 0)):
        assert _number(after[name]) - _number(before[name]) == change
    assert _number(after[b"curr_items"]) >= 1
    assert loop(client.stats(b"settings"))[b"item_size_max"] == b"1048576"
    assert any(name.startswith(b"items:") for name in loop(client.stats(b"items")))
    assert b"total_malloced" in loop(client.stats(b"slabs"))


def _number(value: bytes | None) -> int:
    assert value is not None
    return int(value)


def test_flush_all_empties_the_server(loop: Loop, client: Client) -> None:
    loop(client.set(b"key", b"x"))
    loop(client.flush_all())
    assert loop(client.get(b"key")) is None


async def _to_json(value: object) -> tuple[bytes, int]:
    return json.dumps(value).encode(), 2**32 - 1


async def _from_json(value: bytes, flags: int) -> object:
    assert flags == 2**32 - 1
    return json.loads(value)


def test_flags_say_how_a_value_is_to_be_read(loop: Loop, client: Client, server: RunningServer) -> None:
    flagged = FlagClient[object](
        server.host, server.port, get_flag_handler=_from_json, set_flag_handler=_to_json, pool_size=1
    )
    value = {"list": [1, None, "ünïcode"]}
    assert loop(flagged.set(b"json", value)) is True
    assert loop(flagged.set(b"bytes", b"plain")) is True
    assert loop(flagged.multi_get(b"json", b"bytes")) == (value, b"plain")
    _, number = loop(flagged.gets(b"json"))
    assert number is not None
    assert loop(flagged.cas(b"json", [2], number)) is True
    assert loop(flagged.get(b"json")) == [2]
    loop(flagged.close())
    with pytest.raises(ClientException, match="flags without handler"):
        loop(client.get(b"json"))


def test_many_tasks_share_the_pool(loop: Loop, client: Client) -> None:
    async def work(number: int) -> bool:
        key = b"task-%d" % number
        for turn in range(10):
            await client.set(key, b"%d" % turn)
            await client.incr(b"total")
            if await client.get(key) != b"%d" % turn:
                return False
        return True

    async def all_of_them() -> list[bool]:
        return await asyncio.gather(*(work(number) for number in range(40)))

    loop(client.set(b"total", b"0"))
    assert loop(all_of_them()) == [True] * 40
    assert loop(client.get(b"total")) == b"400"
