"""The names and numbers that `stats` sends."""

import os
from pathlib import Path

import pytest

from memcache_kv.protocol import ConnectionFacts, report
from memcache_kv.settings import Settings
from memcache_kv.stats import Counters
from memcache_kv.version import PROTOCOL_VERSION, VERSION
from tests.protocol.context_factory import PORT, Conversation, Surroundings

WORDS = (b"", b" ", b" settings", b" items", b" slabs", b" sizes", b" conns")


def rows(conversation: Conversation, word: bytes = b"") -> list[tuple[str, str]]:
    """The names and values of one report, read as clients read them."""
    lines = conversation.feed(b"stats" + word + b"\r\n").decode("utf-8", "surrogateescape").split("\r\n")
    assert lines[-2:] == ["END", ""]
    parted = [line.split(" ", 2) for line in lines[:-2]]
    assert all(parts[0] == "STAT" and len(parts) == 3 for parts in parted)
    return [(parts[1], parts[2]) for parts in parted]


@pytest.fixture
def busy() -> Conversation:
    """A server that has something to tell in every report."""
    around = Surroundings(Settings(listen=("127.0.0.1", "::1"), journal=Path("data")))
    around.rows = [
        ConnectionFacts(7, "tcp:127.0.0.1:11211", "", "conn_listening", 0),
        ConnectionFacts(30, "tcp:127.0.0.1:4711", "tcp:127.0.0.1:11211", "conn_read", 3),
    ]
    conversation = Conversation(around)
    conversation.feed(b"set a 0 0 1\r\nx\r\nget a\r\nget b\r\n")
    return conversation


@pytest.mark.parametrize("word", WORDS)
def test_names_are_unique_in_each_report(busy: Conversation, word: bytes) -> None:
    names = [name for name, _ in rows(busy, word)]
    assert names
    assert len(names) == len(set(names))


@pytest.mark.parametrize("word", WORDS)
def test_values_are_never_empty(busy: Conversation, word: bytes) -> None:
    assert all(value.strip() for _, value in rows(busy, word))


@pytest.mark.parametrize("name", ["rusage_user", "rusage_system"])
def test_processor_times_have_exactly_one_dot(busy: Conversation, name: str) -> None:
    value = dict(rows(busy))[name]
    assert value.count(".") == 1
    assert float(value) >= 0


def test_the_version_is_bare_and_ours_stands_under_its_own_name(busy: Conversation) -> None:
    told = dict(rows(busy))
    parts = told["version"].split(".")
    assert told["version"] == PROTOCOL_VERSION
    assert len(parts) == 3
    assert all(part.isdigit() and int(part) <= 255 for part in parts)
    assert len(told["version"]) < 24
    assert told["memcache_kv_version"] == VERSION


def test_what_exporters_and_libraries_look_for_is_there(busy: Conversation) -> None:
    wanted = {
        "pid", "uptime", "time", "version", "pointer_size", "rusage_user", "rusage_system", "max_connections",
        "curr_connections", "total_connections", "rejected_connections", "cmd_get", "cmd_set", "cmd_flush",
        "cmd_touch", "get_hits", "get_misses", "get_expired", "get_flushed", "delete_misses", "delete_hits",
        "incr_misses", "incr_hits", "decr_misses", "decr_hits", "cas_misses", "cas_hits", "cas_badval",
        "touch_hits", "touch_misses", "bytes_read", "bytes_written", "limit_maxbytes", "accepting_conns",
        "listen_disabled_num", "threads", "conn_yields", "hash_power_level", "hash_bytes", "bytes", "curr_items",
        "total_items", "evictions", "reclaimed", "evicted_unfetched", "crawler_items_checked",
    }  # fmt: skip
    assert wanted - dict(rows(busy)).keys() == set()


def test_every_counter_is_told(busy: Conversation) -> None:
    assert set(Counters.__slots__) - dict(rows(busy)).keys() == set()


def test_what_was_done_is_told(busy: Conversation) -> None:
    told = dict(rows(busy))
    counted = {
        name: told[name] for name in ("cmd_get", "get_hits", "get_misses", "cmd_set", "total_items", "curr_items")
    }
    assert counted == {
        "cmd_get": "2", "get_hits": "1", "get_misses": "1", "cmd_set": "1", "total_items": "1", "curr_items": "1",
    }  # fmt: skip
    assert told["bytes"] == str(busy.around.store.used_bytes)
    assert told["pid"] == str(os.getpid())


def test_time_and_uptime_follow_the_clock(busy: Conversation) -> None:
    clock = busy.around.clock
    clock.advance(100)
    told = dict(rows(busy))
    assert (told["uptime"], told["time"]) == ("100", str(clock.now))


def test_expired_items_are_told_of(busy: Conversation) -> None:
    busy.feed(b"set b 0 10 1\r\nx\r\n")
    busy.around.clock.advance(10)
    busy.feed(b"get b\r\n")
    assert dict(rows(busy))["get_expired"] == "1"


def test_a_reset_sets_the_counts_to_zero_and_leaves_what_is_there(busy: Conversation) -> None:
    totals = busy.around.context.totals
    totals.open()
    assert busy.feed(b"stats reset\r\n") == b"RESET\r\n"
    told = dict(rows(busy))
    assert {told[name] for name in Counters.__slots__ if not name.startswith("bytes")} == {"0"}
    assert (told["total_items"], told["total_connections"], told["evictions"]) == ("0", "0", "0")
    assert (told["curr_items"], told["curr_connections"]) == ("1", "1")
    assert busy.feed(b"get a\r\n").startswith(b"VALUE")


def test_the_beginning_of_a_word_is_enough(busy: Conversation) -> None:
    assert rows(busy, b" sett") == rows(busy, b" settings")
    assert rows(busy, b" conn") == rows(busy, b" conns")


def test_the_settings_are_told(busy: Conversation) -> None:
    told = dict(rows(busy, b" settings"))
    assert told["maxbytes"] == str(64 << 20)
    assert told["maxconns"] == "1024"
    assert told["tcpport"] == str(PORT)
    assert told["inter"] == "127.0.0.1,::1"
    assert told["item_size_max"] == str(1 << 20)
    assert told["evictions"] == "on"
    assert told["domain_socket"] == "NULL"
    assert told["umask"] == "700"
    assert told["memcache_kv_journal"] == "data"
    assert told["memcache_kv_fsync"] == "everysec"


def test_changed_settings_are_told() -> None:
    around = Surroundings(Settings(disable_evictions=True, enable_shutdown=True, max_items=5))
    conversation = Conversation(around)
    conversation.feed(b"cache_memlimit 100\r\n")
    told = dict(rows(conversation, b" settings"))
    assert (told["evictions"], told["shutdown_command"], told["memcache_kv_max_items"]) == ("off", "yes", "5")
    assert told["maxbytes"] == str(100 << 20)


def test_names_of_files_that_are_no_text_are_told_too() -> None:
    name = os.fsdecode(b"/tmp/\xff.sock")
    around = Surroundings(Settings(unix_socket=Path(name), journal=Path(name)))
    around.rows = [ConnectionFacts(7, f"unix:{name}", "", "conn_listening", 0)]
    conversation = Conversation(around)
    assert dict(rows(conversation, b" settings"))["domain_socket"] == name
    assert dict(rows(conversation, b" conns"))["7:addr"] == f"unix:{name}"


def test_the_connections_are_told_of(busy: Conversation) -> None:
    assert rows(busy, b" conns") == [
        ("7:addr", "tcp:127.0.0.1:11211"),
        ("7:state", "conn_listening"),
        ("7:secs_since_last_cmd", "0"),
        ("30:addr", "tcp:127.0.0.1:4711"),
        ("30:listen_addr", "tcp:127.0.0.1:11211"),
        ("30:state", "conn_read"),
        ("30:secs_since_last_cmd", "3"),
    ]


def test_items_and_slabs_are_one_class(busy: Conversation) -> None:
    items, slabs = dict(rows(busy, b" items")), dict(rows(busy, b" slabs"))
    assert items["items:1:number"] == "1"
    assert (slabs["1:used_chunks"], slabs["active_slabs"], slabs["1:get_hits"]) == ("1", "1", "1")


def test_the_counts_of_several_workers_are_added() -> None:
    around = Surroundings()
    other = Counters()
    other.cmd_get = 40
    around.context.all_counters.append(other)
    around.context.threads = 2
    conversation = Conversation(around)
    conversation.feed(b"get a b\r\n")
    told = dict(report.general(around.context))
    assert (told["cmd_get"], told["threads"]) == (42, 2)
