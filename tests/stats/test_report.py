"""The names and numbers that `stats` sends."""

import os
from pathlib import Path

import pytest

from memcache_kv.config.memcached_options import Unused
from memcache_kv.config.settings import Settings
from memcache_kv.journal import Compactor, Fsync, Journal, JournalDirectory
from memcache_kv.stats import report
from memcache_kv.stats.census import COUNTED_AT_ONCE
from memcache_kv.stats.connections import ConnectionStatus
from memcache_kv.stats.counters import Counters
from memcache_kv.store.entry import pack
from memcache_kv.version import PROTOCOL_VERSION, VERSION
from tests.protocol.context_factory import PORT, Conversation, Surroundings


def words(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


GENERAL = words(
    """
    pid uptime time version libevent pointer_size rusage_user rusage_system max_connections curr_connections
    total_connections rejected_connections connection_structures response_obj_oom response_obj_count
    response_obj_bytes read_buf_count read_buf_bytes read_buf_bytes_free read_buf_oom reserved_fds cmd_get
    cmd_set cmd_flush cmd_touch cmd_meta get_hits get_misses get_expired get_flushed delete_misses delete_hits
    incr_misses incr_hits decr_misses decr_hits cas_misses cas_hits cas_badval touch_hits touch_misses
    store_too_large store_no_memory auth_cmds auth_errors bytes_read bytes_written limit_maxbytes
    accepting_conns listen_disabled_num time_in_listen_disabled_us threads conn_yields hash_power_level
    hash_bytes hash_is_expanding slab_reassign_rescues slab_reassign_chunk_rescues slab_reassign_inline_reclaim
    slab_reassign_busy_items slab_reassign_busy_deletes slab_reassign_busy_nomem slab_reassign_last_busy_status
    slab_reassign_running slabs_moved lru_crawler_running lru_crawler_starts lru_maintainer_juggles malloc_fails
    log_worker_dropped log_worker_written log_watcher_skipped log_watcher_sent log_watchers unexpected_napi_ids
    round_robin_fallback bytes curr_items total_items slab_global_page_pool expired_unfetched evicted_unfetched
    evicted_active evictions reclaimed crawler_reclaimed crawler_items_checked lrutail_reflocked moves_to_cold
    moves_to_warm moves_within_lru direct_reclaims lru_bumps_dropped
    """
)
"""The statistics of memcached 1.6.45, in its order."""

OWN = words(
    """
    memcache_kv_longest_turn_us memcache_kv_slow_turns memcache_kv_hidden_errors memcache_kv_stored_expired
    memcache_kv_rejected_too_large memcache_kv_evicted_unread
    memcache_kv_connection_memory memcache_kv_connection_memory_limit memcache_kv_connections_closed_for_memory
    memcache_kv_accelerated
    """
)
"""What `stats memcache_kv` says."""

SEGMENTS = words(
    """
    lru_maintainer_juggles evicted_active moves_to_cold moves_to_warm moves_within_lru direct_reclaims
    lru_bumps_dropped
    """
)
"""What it tells only with its thread that moves items between segments."""

PAGES = [name for name in GENERAL if name.startswith(("slab_reassign", "slabs_moved"))]

ITEMS = words(
    """
    number number_hot number_warm number_cold age_hot age_warm age mem_requested evicted evicted_nonzero
    evicted_time outofmemory tailrepairs reclaimed expired_unfetched evicted_unfetched evicted_active
    crawler_reclaimed crawler_items_checked lrutail_reflocked moves_to_cold moves_to_warm moves_within_lru
    direct_reclaims hits_to_hot hits_to_warm hits_to_cold hits_to_temp
    """
)

SLABS = words(
    """
    1:chunk_size 1:chunks_per_page 1:total_pages 1:total_chunks 1:used_chunks 1:free_chunks 1:free_chunks_end
    1:get_hits 1:cmd_set 1:delete_hits 1:incr_hits 1:decr_hits 1:cas_hits 1:cas_badval 1:touch_hits
    active_slabs total_malloced
    """
)

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
        ConnectionStatus(7, "tcp:127.0.0.1:11211", "", "conn_listening", 0),
        ConnectionStatus(30, "tcp:127.0.0.1:4711", "tcp:127.0.0.1:11211", "conn_read", 3),
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
    assert dict(rows(busy, b" settings"))["memcache_kv_version"] == VERSION


def test_all_is_told_that_memcached_tells_in_its_order_and_nothing_else(busy: Conversation) -> None:
    assert [name for name, _ in rows(busy)] == GENERAL
    assert [name for name, _ in rows(busy, b" memcache_kv")] == OWN
    assert [name for name, _ in rows(busy, b" items")] == [f"items:1:{name}" for name in ITEMS]
    assert [name for name, _ in rows(busy, b" slabs")] == SLABS


@pytest.mark.parametrize(
    ("settings", "less", "more"),
    [
        (Settings(extended=Unused(lru_maintainer_thread=False)), SEGMENTS, []),
        (Settings(extended=Unused(slab_reassign=False)), PAGES, []),
        (Settings(maxconns_fast=False), ["rejected_connections"], []),
        (Settings(idle_timeout=10), [], ["idle_kicks"]),
    ],
    ids=["no LRU thread", "no moving of pages", "clients wait for a place", "idle clients are sent away"],
)
def test_what_an_option_turns_off_is_not_told(settings: Settings, less: list[str], more: list[str]) -> None:
    names = [name for name, _ in rows(Conversation(Surroundings(settings)))]
    kept = [name for name in GENERAL if name not in less]
    if more:
        kept.insert(kept.index("auth_errors") + 1, *more)
    assert names == kept


def test_a_crawler_that_rests_is_not_told_of(busy: Conversation) -> None:
    busy.feed(b"lru_crawler disable\r\n")
    assert {"lru_crawler_running", "lru_crawler_starts"} & dict(rows(busy)).keys() == set()


def test_every_counter_is_told(busy: Conversation) -> None:
    told = {name.removeprefix("memcache_kv_") for word in (b"", b" memcache_kv") for name, _ in rows(busy, word)}
    assert set(Counters.__slots__) - told == set()


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
    assert {told[name] for name in told if name in Counters.__slots__ and not name.startswith("bytes")} == {"0"}
    assert dict(rows(busy, b" memcache_kv"))["memcache_kv_longest_turn_us"] == "0"
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


def test_what_finds_no_memory_is_told_by_class_whatever_the_command() -> None:
    around = Surroundings(Settings(disable_evictions=True, max_items=2))
    conversation = Conversation(around)
    conversation.feed(b"set a 0 0 1\r\n1\r\nset b 0 0 400\r\n" + bytes(400) + b"\r\n")
    small, large = (around.store.sizes.class_of_item(b"a", pack(0, bytes(size))) for size in (1, 400))
    conversation.feed(b"set c 0 0 1\r\n1\r\nms d 1\r\n1\r\nmg e N0\r\nma f N0\r\n")
    conversation.feed(b"add g 0 0 400\r\n" + bytes(400) + b"\r\n")
    told = dict(rows(conversation, b" items"))
    assert (told[f"items:{small}:outofmemory"], told[f"items:{large}:outofmemory"]) == ("4", "1")
    conversation.feed(b"stats reset\r\n")
    assert dict(rows(conversation, b" items"))[f"items:{small}:outofmemory"] == "0"


def test_names_of_files_that_are_no_text_are_told_too() -> None:
    name = os.fsdecode(b"/tmp/\xff.sock")
    around = Surroundings(Settings(unix_socket=Path(name), journal=Path(name)))
    around.rows = [ConnectionStatus(7, f"unix:{name}", "", "conn_listening", 0)]
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


def store(conversation: Conversation, sizes: list[int], exptime: int = 0) -> None:
    """Store a value of each of these sizes."""
    for number, size in enumerate(sizes):
        line = b"set k%d 0 %d %d\r\n" % (number, exptime, size)
        conversation.feed_pieces(line, bytes(size) + b"\r\n")  # in one piece it would be stored in the short way


def by_class(conversation: Conversation, word: bytes, name: str) -> dict[int, int]:
    """One number of each class."""
    parted = [(row.split(":"), value) for row, value in rows(conversation, b" " + word) if ":" in row]
    return {int(parts[-2]): int(value) for parts, value in parted if parts[-1] == name}


def test_items_are_told_of_by_their_size_class_and_in_its_order() -> None:
    conversation = Conversation()
    store(conversation, [66560, 1, 2, 40, 66500, 1_000_000])
    assert by_class(conversation, b"items", "number") == {1: 2, 2: 1, 31: 2, 39: 1}
    assert list(by_class(conversation, b"items", "number")) == [1, 2, 31, 39]
    assert by_class(conversation, b"items", "mem_requested") == {
        1: 2 * (2 + 59) + 1 + 2, 2: 2 + 59 + 40, 31: 2 * (2 + 59) + 66560 + 66500, 39: 2 + 59 + 1_000_000,
    }  # fmt: skip


def test_client_flags_and_no_cas_ids_change_the_size_as_in_memcached() -> None:
    value = bytes(96 - 59 - 1)
    line = b"set a %d 0 %d\r\n%b\r\n"
    for settings, flags, requested in ((Settings(), 0, 96), (Settings(), 7, 100), (Settings(disable_cas=True), 7, 92)):
        conversation = Conversation(Surroundings(settings))
        conversation.feed(line % (flags, len(value), value))
        assert by_class(conversation, b"items", "mem_requested") == {1 + (requested > 96): requested}


def test_the_classes_follow_the_flags() -> None:
    conversation = Conversation(Surroundings(Settings(extended=Unused(slab_sizes="100-200", slab_chunk_max=1 << 19))))
    store(conversation, [1, 100, 1000])
    assert by_class(conversation, b"slabs", "chunk_size") == {1: 104, 2: 200, 3: 1 << 19}


def test_what_has_expired_is_counted_until_it_is_removed_and_the_numbers_add_up() -> None:
    conversation = Conversation()
    store(conversation, [1, 500, 70_000], exptime=10)
    conversation.around.clock.advance(10)
    assert sum(by_class(conversation, b"items", "number").values()) == len(conversation.around.store) == 3


@pytest.mark.parametrize("word", [b"items", b"slabs"])
def test_a_walk_over_many_items_gives_way_to_others_after_every_few(word: bytes) -> None:
    conversation = Conversation()
    count = 3 * COUNTED_AT_ONCE
    for number in range(count):
        conversation.around.store.put(b"%d" % number, b" 0 1\r\nx\r\n")
    turns = list(report.WALKS[word](conversation.around.context))
    assert [bool(rows) for rows in turns[:3]] == [False] * 3
    told = {name: value for rows in turns for name, value in rows}
    assert told["items:1:number" if word == b"items" else "1:used_chunks"] == count


def test_evictions_are_told_by_class() -> None:
    conversation = Conversation(Surroundings(Settings(max_items=2), shards=1))
    conversation.feed(b"".join(b"set s%d 0 0 1\r\nx\r\n" % number for number in range(7)))
    store(conversation, [66560] * 5, exptime=100)
    evicted = by_class(conversation, b"slabs", "used_chunks")
    assert (evicted[1], evicted[31]) == (0, 2)
    assert by_class(conversation, b"items", "evicted") == {31: 3}
    assert by_class(conversation, b"items", "evicted_nonzero") == {31: 3}
    conversation.feed(b"set small 0 0 1\r\nx\r\n")
    assert by_class(conversation, b"items", "evicted") == {1: 7, 31: 4}
    assert dict(rows(conversation))["evictions"] == "11"
    assert by_class(conversation, b"items", "evicted_nonzero") == {1: 0, 31: 4}
    conversation.feed(b"stats reset\r\n")
    assert by_class(conversation, b"items", "evicted") == {1: 0, 31: 0}


def test_an_expired_item_that_is_overwritten_is_reclaimed() -> None:
    conversation = Conversation()
    store(conversation, [66560, 66560], exptime=10)
    conversation.around.clock.advance(10)
    conversation.feed(b"get k1\r\n")
    store(conversation, [66570])
    assert by_class(conversation, b"items", "reclaimed") == {31: 1}
    assert dict(rows(conversation))["reclaimed"] == "1"
    store(conversation, [66570])
    assert by_class(conversation, b"items", "reclaimed") == {31: 1}, "what lives is no more than replaced"


def test_what_the_crawler_takes_is_told_by_class() -> None:
    conversation = Conversation()
    store(conversation, [1, 66560, 66560], exptime=10)
    conversation.feed(b"set stays 0 0 66560\r\n%b\r\n" % bytes(66560))
    conversation.around.clock.advance(10)
    conversation.around.context.crawler.crawl()
    for name in ("crawler_reclaimed", "reclaimed", "expired_unfetched"):
        assert by_class(conversation, b"items", name) == {31: 2}
    assert by_class(conversation, b"slabs", "used_chunks") == {1: 0, 31: 1}


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


def test_a_get_of_what_a_flush_took_is_told_of_once(busy: Conversation) -> None:
    busy.feed(b"flush_all\r\nget a\r\nget a\r\nget never\r\n")
    told = dict(rows(busy))
    assert (told["get_flushed"], told["get_expired"], told["reclaimed"]) == ("1", "0", "1")


def test_what_the_crawler_took_is_told_as_its_own(busy: Conversation) -> None:
    busy.feed(b"set b 0 10 1\r\nx\r\n")
    busy.around.clock.advance(10)
    busy.around.context.crawler.crawl()
    told, items = dict(rows(busy)), dict(rows(busy, b" items"))
    assert (told["lru_crawler_starts"], told["lru_crawler_running"], told["crawler_reclaimed"]) == ("1", "0", "1")
    assert (told["expired_unfetched"], told["reclaimed"], told["get_expired"]) == ("1", "0", "0")
    assert items["items:1:crawler_reclaimed"] == "1"
    assert int(told["crawler_items_checked"]) >= 1
    busy.feed(b"stats reset\r\n")
    told = dict(rows(busy))
    assert (told["lru_crawler_starts"], told["crawler_reclaimed"], told["crawler_items_checked"]) == ("0", "0", "0")


def test_a_round_that_was_asked_for_is_told_to_be_running(busy: Conversation) -> None:
    assert busy.feed(b"lru_crawler crawl all\r\n") == b"OK\r\n"
    assert dict(rows(busy))["lru_crawler_running"] == "1"


def test_evictions_are_told_by_what_was_evicted() -> None:
    conversation = Conversation(Surroundings(Settings(max_items=2)))
    conversation.feed(b"set a 0 100 1\r\nx\r\nset b 0 0 1\r\nx\r\n")
    conversation.around.clock.advance(7)
    conversation.feed(b"get b\r\n" + b"".join(b"set c%d 0 100 1\r\nx\r\n" % number for number in range(50)))
    told, items = dict(rows(conversation)), dict(rows(conversation, b" items"))
    assert told["curr_items"] == "2"
    assert told["evictions"] == items["items:1:evicted"] == items["items:1:direct_reclaims"] == "50"
    assert told["direct_reclaims"] == "50"
    assert int(told["evicted_unfetched"]) + int(told["evicted_active"]) == 50
    assert int(items["items:1:evicted_nonzero"]) in (49, 50)
    conversation.feed(b"stats reset\r\n")
    told, items = dict(rows(conversation)), dict(rows(conversation, b" items"))
    assert (told["evictions"], items["items:1:evicted_nonzero"], items["items:1:evicted_time"]) == ("0", "0", "0")


def test_the_age_is_that_of_what_was_longest_not_touched() -> None:
    conversation = Conversation()
    conversation.feed(b"set a 0 1000 1\r\nx\r\n")
    conversation.around.clock.advance(20)
    conversation.feed(b"set b 0 1000 1\r\nx\r\n")
    conversation.around.clock.advance(3)
    assert dict(rows(conversation, b" items"))["items:1:age"] == "23"


def test_a_class_goes_with_its_last_item(busy: Conversation) -> None:
    busy.feed(b"delete a\r\n")
    assert rows(busy, b" slabs") == [("active_slabs", "0"), ("total_malloced", "0")]
    assert busy.feed(b"stats items\r\n") == b"END\r\n"


def test_the_number_of_slab_classes_is_that_of_the_classes_shown() -> None:
    conversation = Conversation()
    conversation.feed(b"set a 0 1 1\r\nx\r\n")
    conversation.around.clock.advance(2)
    conversation.feed(b"add a 0 0 1\r\ny\r\ndelete a\r\n")  # its class has reclaimed an item, and has none now
    conversation.feed(b"set b 0 0 100\r\n%b\r\n" % bytes(100))
    slabs = dict(rows(conversation, b" slabs"))
    shown = {name.partition(":")[0] for name in slabs if ":" in name}
    assert (len(shown), slabs["active_slabs"]) == (2, "2")


def test_an_unused_server_has_no_slabs() -> None:
    assert rows(Conversation(), b" slabs") == [("active_slabs", "0"), ("total_malloced", "0")]


@pytest.mark.parametrize(("count", "size", "chunks"), [(1, 0, 1), (10, 10, 1), (5000, 300, 1), (3, 900_000, 2)])
def test_chunks_and_pages_add_up(count: int, size: int, chunks: int) -> None:
    conversation = Conversation()
    conversation.feed(b"".join(b"set k%d 0 0 %d\r\n%b\r\n" % (number, size, bytes(size)) for number in range(count)))
    slabs, items = (
        {name.split(":")[-1]: int(value) for name, value in rows(conversation, b" " + word)}
        for word in (b"slabs", b"items")
    )
    assert (items["number"], slabs["used_chunks"]) == (count, count * chunks)
    assert slabs["used_chunks"] + slabs["free_chunks"] == slabs["total_chunks"]
    assert slabs["total_chunks"] == slabs["total_pages"] * slabs["chunks_per_page"]
    assert items["mem_requested"] <= slabs["chunk_size"] * slabs["used_chunks"]
    assert 0 <= slabs["total_malloced"] - slabs["chunk_size"] * slabs["used_chunks"] < 1 << 20


def test_the_journal_is_told_of_where_there_is_one(busy: Conversation, tmp_path: Path) -> None:
    around = busy.around
    journal = Journal(JournalDirectory(tmp_path), Fsync.EVERYSEC)
    around.store.log = around.context.journal = journal
    around.context.compactor = Compactor(journal, around.store, 2, around.context.log)
    busy.feed(b"set a 0 0 1\r\nx\r\n")
    told = dict(rows(busy))
    assert list(told)[: len(GENERAL)] == GENERAL
    own = {name.removeprefix("memcache_kv_journal_"): told[name] for name in list(told)[len(GENERAL) :]}
    assert (own["records"], own["lag_records"], own["failing"], own["compacting"]) == ("1", "1", "0", "0")
    assert int(own["queued_bytes"]) > 0
    journal.close()
    own = {name.removeprefix("memcache_kv_journal_"): value for name, value in rows(busy)}
    assert (own["lag_records"], own["queued_bytes"], own["fsyncs"]) == ("0", "0", "1")
    assert float(own["fsync_seconds"]) >= float(own["longest_fsync_seconds"]) > 0
    assert int(own["bytes"]) == sum(path.stat().st_size for path in tmp_path.glob("increment-*"))
