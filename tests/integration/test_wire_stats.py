"""stats, as clients and exporters read them."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest

from memcache_kv.store.sizes import DEFAULT_SIZES
from tests.integration.conftest import MakeServer
from tests.integration.known_differences import has_rewritten_parser
from tests.integration.wire import MEMCACHED, OURS, RunningServer, ServerUnavailable, Wire, poll_until, server_command


def words(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


GENERAL = words(
    """
    pid uptime time version pointer_size rusage_user rusage_system max_connections curr_connections
    total_connections rejected_connections connection_structures cmd_get cmd_set cmd_flush cmd_touch
    cmd_meta get_hits get_misses get_expired get_flushed delete_misses delete_hits incr_misses incr_hits
    decr_misses decr_hits cas_misses cas_hits cas_badval touch_hits touch_misses store_too_large
    store_no_memory auth_cmds auth_errors bytes_read bytes_written limit_maxbytes accepting_conns
    listen_disabled_num threads conn_yields hash_power_level hash_bytes hash_is_expanding bytes
    curr_items total_items expired_unfetched evicted_unfetched evictions reclaimed malloc_fails
    """
)

WORDS_AND_FRACTIONS = {
    "version", "libevent", "rusage_user", "rusage_system", "slab_reassign_last_busy_status",
}  # fmt: skip

OUR_OWN = ("memcache_kv", "journal")
"""How the names begin that memcached does not have."""

SETTINGS = words(
    """
    maxbytes maxconns tcpport udpport inter verbosity oldest evictions domain_socket umask
    shutdown_command growth_factor chunk_size num_threads stat_key_prefix detail_enabled cas_enabled
    tcp_backlog binding_protocol auth_enabled_sasl auth_enabled_ascii item_size_max flush_enabled
    ext_item_size ext_item_age ext_low_ttl ext_recache_rate ext_wbuf_size ext_compact_under ext_drop_under
    ext_max_sleep ext_max_frag slab_automove_freeratio ext_drop_unread
    """
)


@pytest.fixture
def fresh(make_server: MakeServer) -> Iterator[Wire]:
    """A connection to a server nobody has used."""
    with Wire(make_server()) as wire:
        yield wire


def moved(wire: Wire, *exchanges: tuple[bytes, bytes]) -> dict[str, int]:
    """Which counters changed by some exchanges, and by how much. Needs a server nobody has used.

    memcached may remove what `flush_all` has expired at any later time.
    """
    before = wire.stats()
    wire.session(*exchanges)
    after = wire.stats()
    names = [name for name in GENERAL if name.startswith(("cmd_", "get_")) or name.endswith(("hits", "misses"))]
    names += ["cas_badval", "curr_items", "total_items", "store_too_large"]
    changes = {name: int(after[name]) - int(before[name]) for name in names}
    return {name: change for name, change in changes.items() if change}


def test_the_general_names_are_there(wire: Wire) -> None:
    assert set(GENERAL) - set(wire.stats()) == set()


def test_all_but_a_few_are_whole_numbers(wire: Wire) -> None:
    odd = {name for name, value in wire.stats().items() if not value.isdecimal()}
    assert {name for name in odd if not name.startswith(OUR_OWN)} <= WORDS_AND_FRACTIONS


def test_used_time_has_six_places_behind_one_dot(wire: Wire) -> None:
    stats = wire.stats()
    for name in ("rusage_user", "rusage_system"):
        assert re.fullmatch(r"\d+\.\d{6}", stats[name]), stats[name]


def test_the_facts_about_the_process_are_true(wire: Wire) -> None:
    stats = wire.stats()
    assert int(stats["pid"]) == wire.server.pid
    assert stats["pointer_size"] in ("32", "64")
    assert stats["limit_maxbytes"] == str(64 * 1024 * 1024)
    assert stats["accepting_conns"] == "1"
    assert stats["max_connections"] == "1024"
    assert int(stats["time"]) > 1_500_000_000
    assert int(stats["threads"]) >= 1


def test_the_version_is_short(wire: Wire) -> None:
    version = wire.stats()["version"]
    assert version == wire.version
    assert len(version) < 24


def test_a_trailing_space_does_not_matter(wire: Wire) -> None:
    names = list(wire.stats())
    reply = wire.ask(b"stats \r\n").decode()
    assert [line.split()[1] for line in reply.split("\r\n")[:-2]] == names


@pytest.mark.parametrize("word", [b"foo", b"noreply", b"foo bar", b"RESET"])
def test_an_unknown_kind_is_an_error(wire: Wire, word: bytes) -> None:
    wire.expect(b"stats " + word + b"\r\n", b"ERROR\r\n")


def test_gets_are_counted_by_key(fresh: Wire) -> None:
    change = moved(
        fresh,
        (b"set k 0 0 1\r\nx\r\n", b"STORED\r\n"),
        (b"get k\r\n", b"VALUE k 0 1\r\nx\r\nEND\r\n"),
        (b"get k k nothing\r\n", b"VALUE k 0 1\r\nx\r\n" * 2 + b"END\r\n"),
        (b"gets nothing nowhere\r\n", b"END\r\n"),
    )
    assert change == {
        "cmd_get": 6, "get_hits": 3, "get_misses": 3, "cmd_set": 1, "curr_items": 1, "total_items": 1,
    }  # fmt: skip


def test_every_storage_command_counts_as_a_set(fresh: Wire) -> None:
    change = moved(
        fresh,
        (b"set k 0 0 1\r\nx\r\n", b"STORED\r\n"),
        (b"add k 0 0 1\r\nx\r\n", b"NOT_STORED\r\n"),
        (b"replace nothing 0 0 1\r\nx\r\n", b"NOT_STORED\r\n"),
        (b"append k 0 0 1 noreply\r\nx\r\n", b""),
        (b"prepend nothing 0 0 1 noreply\r\nx\r\n", b""),
    )
    assert change == {"cmd_set": 5, "curr_items": 1, "total_items": 2}


def test_cas_is_counted_by_its_outcome(fresh: Wire) -> None:
    fresh.expect(b"set k 0 0 1\r\nx\r\n", b"STORED\r\n")
    number = fresh.cas_of(b"k")
    change = moved(
        fresh,
        (b"cas nothing 0 0 1 1\r\nx\r\n", b"NOT_FOUND\r\n"),
        (b"cas k 0 0 1 0\r\nx\r\n", b"EXISTS\r\n"),
        (b"cas k 0 0 1 0\r\nx\r\n", b"EXISTS\r\n"),
        (b"cas k 0 0 1 %d\r\nx\r\n" % number, b"STORED\r\n"),
    )
    assert change == {"cmd_set": 4, "cas_misses": 1, "cas_badval": 2, "cas_hits": 1, "total_items": 1}


def test_counting_and_deleting_and_touching_are_counted(fresh: Wire) -> None:
    fresh.expect(b"set k 0 0 1\r\n5\r\n", b"STORED\r\n")
    change = moved(
        fresh,
        (b"incr k 1\r\nincr k 1\r\nincr nothing 1\r\n", b"6\r\n7\r\nNOT_FOUND\r\n"),
        (b"decr k 1\r\ndecr nothing 1\r\ndecr nothing 1\r\n", b"6\r\nNOT_FOUND\r\nNOT_FOUND\r\n"),
        (b"touch k 0\r\ntouch nothing 0\r\n", b"TOUCHED\r\nNOT_FOUND\r\n"),
        (b"delete k\r\ndelete k\r\n", b"DELETED\r\nNOT_FOUND\r\n"),
        (b"flush_all\r\n", b"OK\r\n"),
    )
    assert change == {
        "incr_hits": 2, "incr_misses": 1, "decr_hits": 1, "decr_misses": 2, "cmd_touch": 2, "touch_hits": 1,
        "touch_misses": 1, "delete_hits": 1, "delete_misses": 1, "cmd_flush": 1, "curr_items": -1,
    }  # fmt: skip


def test_gat_is_counted_as_a_touch(fresh: Wire) -> None:
    fresh.expect(b"set k 0 0 1\r\n5\r\n", b"STORED\r\n")
    change = moved(fresh, (b"gat 0 k nothing\r\n", b"VALUE k 0 1\r\n5\r\nEND\r\n"))
    assert change == {"cmd_touch": 2, "touch_hits": 1, "touch_misses": 1}


def test_gets_of_expired_values_are_counted_as_misses_and_as_such(fresh: Wire) -> None:
    request = b"".join(b"set k%d 0 -1 1\r\nx\r\nget k%d\r\n" % (number, number) for number in range(20))
    change = moved(fresh, (request, b"STORED\r\nEND\r\n" * 20))
    assert (change["cmd_get"], change["get_misses"]) == (20, 20)
    assert 1 <= change["get_expired"] <= 20, "what was reclaimed before the get is a plain miss"
    assert "get_hits" not in change


def test_a_value_too_large_is_counted(fresh: Wire) -> None:
    size = 1024 * 1024
    change = moved(
        fresh,
        (b"set big 0 0 %d\r\n%b\r\n" % (size, bytes(size)), b"SERVER_ERROR object too large for cache\r\n"),
    )
    assert change == {"store_too_large": 1}


def test_items_and_their_bytes_are_counted(fresh: Wire) -> None:
    empty = int(fresh.stats()["bytes"])
    for number in range(10):
        fresh.expect(b"set k%d 0 0 1000\r\n%b\r\n" % (number, bytes(1000)), b"STORED\r\n")
    stats = fresh.stats()
    assert (empty, stats["curr_items"], stats["total_items"]) == (0, "10", "10")
    assert 10 * 1000 < int(stats["bytes"]) < 10 * 1200
    for number in range(10):
        fresh.expect(b"delete k%d\r\n" % number, b"DELETED\r\n")
    stats = fresh.stats()
    assert (stats["bytes"], stats["curr_items"], stats["total_items"]) == ("0", "0", "10")


def test_bytes_on_the_wire_are_counted(fresh: Wire) -> None:
    before = fresh.stats()
    fresh.expect(b"set k 0 0 10000\r\n" + bytes(10000) + b"\r\n", b"STORED\r\n")
    between = fresh.stats()
    fresh.expect(b"get k\r\n", b"VALUE k 0 10000\r\n" + bytes(10000) + b"\r\nEND\r\n")
    after = fresh.stats()
    assert 10_000 < int(between["bytes_read"]) - int(before["bytes_read"]) < 11_000
    assert 10_000 < int(after["bytes_written"]) - int(between["bytes_written"]) < 20_000


def is_alone(wire: Wire) -> bool:
    """Return whether the server has no other connection; those of the test before may be open for a moment."""
    states = [value for name, value in wire.stats(b"conns").items() if name.endswith(":state")]
    return len([state for state in states if state != "conn_listening"]) == 1


def connection_counts(wire: Wire) -> tuple[int, int]:
    """How many connections there are, and how many there were."""
    stats = wire.stats()
    return int(stats["curr_connections"]), int(stats["total_connections"])


def is_counted_once(wire: Wire) -> bool:
    """Open a connection and close it; return whether it counts as one, in both counters."""
    poll_until(lambda: is_alone(wire), "the connections of other tests are closed")
    before = connection_counts(wire)
    with Wire(wire.server):
        during = connection_counts(wire)
    poll_until(lambda: connection_counts(wire)[0] == before[0], "the connection is uncounted")
    return during == (before[0] + 1, before[1] + 1) and connection_counts(wire)[1] == during[1]


def test_connections_are_counted(fresh: Wire) -> None:
    if fresh.server.kind == OURS:
        assert is_counted_once(fresh)
    else:  # it counts a connection of an earlier test only when one of its threads has set it up, which may be now
        poll_until(lambda: is_counted_once(fresh), "a connection counts as one")


def test_reset_answers_reset_and_zeroes_the_counters(fresh: Wire) -> None:
    fresh.session(
        (b"set k 0 0 1\r\nx\r\nset k 0 0 1\r\nx\r\n", b"STORED\r\nSTORED\r\n"),
        (b"get k\r\nget nothing\r\n", b"VALUE k 0 1\r\nx\r\nEND\r\nEND\r\n"),
        (b"stats reset\r\n", b"RESET\r\n"),
    )
    stats = fresh.stats()
    for name in ("cmd_get", "cmd_set", "get_hits", "get_misses", "total_items", "evictions"):
        assert stats[name] == "0", name
    assert stats["curr_items"] == "1"
    fresh.expect(b"get k\r\n", b"VALUE k 0 1\r\nx\r\nEND\r\n")


def test_settings_tell_how_the_server_was_started(fresh: Wire) -> None:
    settings = fresh.stats(b"settings")
    assert set(SETTINGS) - set(settings) == set()
    expected = {
        "maxbytes": "67108864", "maxconns": "1024", "tcpport": str(fresh.server.port), "udpport": "0",
        "inter": "127.0.0.1", "verbosity": "0", "evictions": "on", "domain_socket": "NULL", "umask": "700",
        "cas_enabled": "yes", "item_size_max": "1048576", "shutdown_command": "no", "flush_enabled": "yes",
    }  # fmt: skip
    assert {name: settings[name] for name in expected} == expected


def test_settings_follow_the_flags(make_server: MakeServer) -> None:
    with Wire(make_server("-m", "100", "-c", "200", "-I", "2m", "-M", "-A", "-t", "2", "-R", "50", "-v")) as wire:
        settings = wire.stats(b"settings")
    expected = {
        "maxbytes": str(100 * 1024 * 1024), "maxconns": "200", "item_size_max": str(2 * 1024 * 1024),
        "evictions": "off", "shutdown_command": "yes", "num_threads": "2",
        "reqs_per_event": "50", "verbosity": "1",
    }  # fmt: skip
    assert {name: settings[name] for name in expected} == expected


def test_items_of_an_empty_server_are_none(fresh: Wire) -> None:
    fresh.expect(b"stats items\r\n", b"END\r\n")


def test_items_and_slabs_count_what_is_there(fresh: Wire) -> None:
    for number in range(3):
        fresh.expect(b"set k%d 0 0 %d\r\n%b\r\n" % (number, number, bytes(number)), b"STORED\r\n")
    items = fresh.stats(b"items")
    assert all(re.fullmatch(r"items:\d+:\w+", name) for name in items), items
    assert sum(int(value) for name, value in items.items() if name.endswith(":number")) == 3
    slabs = fresh.stats(b"slabs")
    assert all(re.fullmatch(r"\d+:\w+|active_slabs|total_malloced", name) for name in slabs), slabs
    assert sum(int(value) for name, value in slabs.items() if name.endswith(":used_chunks")) == 3
    assert int(slabs["active_slabs"]) >= 1
    assert int(slabs["total_malloced"]) > 0


HEADER_BYTES = 59
"""What memcached adds to a key and a value."""


def numbers_by_class(kind: str, flags: tuple[str, ...], sizes: list[int]) -> dict[str, str]:
    """Store values of these sizes, with client flags and without, and return how many there are of each class."""
    server = RunningServer(kind, ("-m", "512", *flags))  # room for what memcached wastes with few classes
    try:
        with Wire(server) as wire:
            for index, size in enumerate(sizes):
                for client_flags in (0, 7):
                    key = b"%d:%04d" % (client_flags, index)
                    request = b"set %b %d 0 %d\r\n%b\r\n" % (key, client_flags, size, bytes(size))
                    wire.expect(request, b"STORED\r\n")
            told = wire.stats(b"items")
    finally:
        server.close()
    return {name: value for name, value in told.items() if name.endswith(":number")}


@pytest.mark.parametrize(
    "flags",
    [(), ("-C",), ("-f", "1.08", "-n", "5"), ("-o", "slab_chunk_max=16"), ("-o", "slab_sizes=100-200-3001")],
    ids=" ".join,
)
def test_items_are_counted_in_the_classes_of_memcached(flags: tuple[str, ...]) -> None:
    try:
        server_command(MEMCACHED)
    except ServerUnavailable as reason:
        pytest.skip(str(reason))
    with closing(RunningServer(MEMCACHED)) as memcached:
        if "slab_chunk_max=16" in flags and not has_rewritten_parser(memcached):
            pytest.skip("releases before 1.6.45 do not survive it")
    edges = [size - HEADER_BYTES - len("0:0000") for size in DEFAULT_SIZES.chunks]
    sizes = [1, *(edge + step for edge in edges for step in (-8, -4, 0, 1)), 600_000, (1 << 20) - 200]
    ours = numbers_by_class(OURS, flags, sizes)
    assert ours == numbers_by_class(MEMCACHED, flags, sizes)
    assert len(ours) > 3


def test_slabs_are_told_of_by_class_with_chunks_that_hold_the_items(fresh: Wire) -> None:
    sizes = [1, 10, 1000, 66560, 66560]
    for number, size in enumerate(sizes):
        fresh.expect(b"set k%d 0 0 %d\r\n%b\r\n" % (number, size, bytes(size)), b"STORED\r\n")
    slabs = fresh.stats(b"slabs")
    used = {name: int(value) for name, value in slabs.items() if name.endswith(":used_chunks")}
    assert Counter(used) == {"1:used_chunks": 2, "12:used_chunks": 1, "31:used_chunks": 2}
    assert (slabs["31:chunk_size"], slabs["31:chunks_per_page"], slabs["31:total_pages"]) == ("82792", "12", "1")
    assert slabs["active_slabs"] == "3"
    requested = fresh.stats(b"items")["items:31:mem_requested"]
    assert requested == str(2 * (66560 + 2 + HEADER_BYTES))


def test_others_are_served_while_the_items_are_counted(ours: MakeServer) -> None:
    server = ours("-m", "256")
    with Wire(server) as counting, Wire(server) as other:
        counting.ask(b"".join(b"set k%d 0 0 1 noreply\r\nx\r\n" % number for number in range(100_000)))
        counting.send(b"stats items\r\n")
        served = 0
        counting.socket.settimeout(0.001)
        while True:
            other.expect(b"get k1\r\n", b"VALUE k1 0 1\r\nx\r\nEND\r\n")
            served += 1
            try:
                reply = counting.socket.recv(1 << 16)
            except TimeoutError:
                continue
            break
        assert served > 5
        assert b"STAT items:1:number 100000\r\n" in reply


def test_sizes_are_told_to_be_disabled(wire: Wire) -> None:
    wire.expect(b"stats sizes\r\n", b"STAT sizes_status disabled\r\nEND\r\n")


def test_conns_list_the_listening_socket_and_our_own(fresh: Wire) -> None:
    conns = fresh.stats(b"conns")
    addresses = {value for name, value in conns.items() if name.endswith(":addr")}
    assert f"tcp:127.0.0.1:{fresh.server.port}" in addresses
    assert f"tcp:127.0.0.1:{fresh.socket.getsockname()[1]}" in addresses
    assert "conn_listening" in {value for name, value in conns.items() if name.endswith(":state")}
