"""Lists of all keys, as tools read them."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote_to_bytes

import pytest

from tests.integration.conftest import MakeServer
from tests.integration.known_differences import has_rewritten_parser
from tests.integration.wire import OURS, Wire, poll_until

META_LINE = re.compile(rb"key=(\S+) exp=(-1|\d+) la=(\d+) cas=(\d+) fetch=(yes|no) cls=(\d+) size=(\d+)( flags=\d+)? ?")


def dump(wire: Wire, what: bytes, end: bytes) -> list[bytes]:
    """The lines of a dump between its OK, which some releases leave out, and its end."""
    wire.send(what + b"\r\n")
    lines = []
    while (line := wire.read_line()) != end:
        assert line.endswith(b"\n"), line
        lines.append(line.rstrip(b"\r\n"))
    return lines[1:] if lines[:1] == [b"OK"] else lines


@contextmanager
def unmoved(wire: Wire) -> Iterator[None]:
    """Keep memcached from moving items between its lists, past the crawler or in front of it once more."""
    wire.expect(b"lru mode flat\r\n", b"OK\r\n")
    yield
    wire.expect(b"lru mode segmented\r\n", b"OK\r\n")


def stored(wire: Wire, count: int) -> set[bytes]:
    keys = {b"key:%d" % number for number in range(count)}
    wire.ask(b"".join(b"set %b 0 0 1 noreply\r\nx\r\n" % key for key in keys))
    return keys


@pytest.mark.parametrize("classes", [b"all", b"hash", b"1", b"1,2", b"2,1"])
def test_metadump_tells_of_every_item(wire: Wire, classes: bytes) -> None:
    with unmoved(wire):
        keys = stored(wire, 1000)
        rows = [META_LINE.fullmatch(line) for line in dump(wire, b"lru_crawler metadump " + classes, b"END\r\n")]
    assert all(rows)
    assert sorted(unquote_to_bytes(row[1]) for row in rows if row) == sorted(keys)
    wire.expect(b"mn\r\n", b"MN\r\n")


def test_dumps_of_a_class_have_its_items_alone(wire: Wire) -> None:
    with unmoved(wire):
        dumps_have_their_class_alone(wire)


def dumps_have_their_class_alone(wire: Wire) -> None:
    wire.ask(b"set small 0 0 1\r\nx\r\nset large 0 0 66560\r\n%b\r\n" % bytes(66560))
    for classes, keys in ((b"1", [b"small"]), (b"31", [b"large"]), (b"2", []), (b"31,1", [b"large", b"small"])):
        rows = [META_LINE.fullmatch(line) for line in dump(wire, b"lru_crawler metadump " + classes, b"END\r\n")]
        assert sorted(row[1] for row in rows if row) == keys
        assert {row[6] for row in rows if row} <= set(classes.split(b","))
        if has_rewritten_parser(wire.server):
            lines = dump(wire, b"lru_crawler mgdump " + classes, b"EN\r\n")
            assert sorted(lines) == [b"mg " + key for key in keys]


def test_a_meta_debug_tells_the_class_of_an_item(wire: Wire) -> None:
    wire.ask(b"set small 0 0 1\r\nx\r\nset large 0 0 66560\r\n%b\r\n" % bytes(66560))
    for key, number in ((b"small", b"1"), (b"large", b"31")):
        assert b" cls=%b " % number in wire.ask(b"me %b\r\n" % key)


def test_metadump_tells_the_facts_of_an_item(wire: Wire) -> None:
    now = int(wire.stats()["time"])
    wire.session(
        (b"set forever 5 0 3\r\nabc\r\n", b"STORED\r\n"),
        (b"set mortal 0 1000 3\r\nabc\r\n", b"STORED\r\n"),
        (b"set dead 0 -1 3\r\nabc\r\n", b"STORED\r\n"),
        (b"set a/\xfc%&=~b 0 0 1\r\nx\r\n", b"STORED\r\n"),
    )
    assert wire.ask(b"mg mortal l\r\n").startswith(b"HD l")  # from now on ours records when it is read
    cas = wire.cas_of(b"mortal")
    rows = {
        row[1]: row for line in dump(wire, b"lru_crawler metadump all", b"END\r\n") if (row := META_LINE.match(line))
    }
    assert rows.keys() == {b"forever", b"mortal", b"a%2F%FC%25%26%3D~b"}
    assert rows[b"forever"][2] == b"-1"
    assert now + 1000 <= int(rows[b"mortal"][2]) <= now + 1005
    assert now <= int(rows[b"mortal"][3]) <= now + 5
    assert int(rows[b"mortal"][4]) == cas
    assert 3 < int(rows[b"forever"][7]) < 1000
    if has_rewritten_parser(wire.server):
        assert rows[b"forever"][8] == b" flags=5"


def test_mgdump_tells_keys_as_meta_gets(wire: Wire) -> None:
    if not has_rewritten_parser(wire.server):
        pytest.skip("releases before 1.6.19 have no mgdump")
    with unmoved(wire):
        keys = stored(wire, 100)
        wire.expect(b"ms AAEg/w== 1 b\r\nx\r\n", b"HD\r\n")
        lines = dump(wire, b"lru_crawler mgdump all", b"EN\r\n")
    assert sorted(lines) == sorted([b"mg " + key for key in keys] + [b"mg AAEg/w== b"])
    assert wire.ask(b"".join(line + b" k v\r\n" for line in lines)).count(b"VA 1 ") == 101


def test_cachedump_lists_keys_with_lengths_and_deadlines(make_server: MakeServer) -> None:
    with Wire(make_server()) as wire:
        now = int(wire.stats()["time"])
        wire.session((b"set k1 0 0 3\r\nabc\r\n", b"STORED\r\n"), (b"set k2 0 100 5\r\nabcde\r\n", b"STORED\r\n"))
        give_up_at = time.monotonic() + 20
        while b"k2" not in wire.ask(b"stats cachedump 1 0\r\n") and time.monotonic() < give_up_at:
            time.sleep(0.1)  # memcached lists one of its segments, to which items come after a while
        rows = wire.ask(b"stats cachedump 1 0\r\n").split(b"\r\n")
        assert sorted(row for row in rows if b"k1" in row) == [b"ITEM k1 [3 b; 0 s]"]
        match = re.search(rb"ITEM k2 \[5 b; (\d+) s\]", b"\n".join(rows))
        assert match is not None
        assert now + 100 <= int(match[1]) <= now + 125
        assert rows[-2:] == [b"END", b""]
        assert wire.ask(b"stats cachedump 1 1\r\n").count(b"ITEM") == 1


def test_cachedump_lists_the_items_of_a_class_alone(ours: MakeServer) -> None:
    with Wire(ours()) as wire:
        wire.ask(b"set small 0 0 1\r\nx\r\nset large 0 0 66560\r\n%b\r\n" % bytes(66560))
        wire.session(
            (b"stats cachedump 1 0\r\n", b"ITEM small [1 b; 0 s]\r\nEND\r\n"),
            (b"stats cachedump 31 0\r\n", b"ITEM large [66560 b; 0 s]\r\nEND\r\n"),
            (b"stats cachedump 2 0\r\n", b"END\r\n"),
        )


def test_sizes_are_counted_where_that_is_wanted(make_server: MakeServer) -> None:
    with Wire(make_server("-o", "track_sizes")) as wire:
        wire.expect(b"stats sizes\r\n", b"END\r\n")
        wire.ask(b"set a 0 0 1\r\nx\r\nset b 0 0 1\r\nx\r\nset c 0 0 1000\r\n" + bytes(1000) + b"\r\n")
        sizes = {int(name): int(count) for name, count in wire.stats(b"sizes").items()}
        assert sorted(sizes.values()) == [1, 2]
        assert list(sizes) == sorted(sizes)
        assert all(size % 32 == 0 for size in sizes)
        wire.expect(b"delete c\r\n", b"DELETED\r\n")
        assert list(wire.stats(b"sizes").values()) == ["2"]


def test_a_dump_after_another_reply_is_refused(wire: Wire) -> None:
    if not has_rewritten_parser(wire.server):
        pytest.skip("only told by newer releases")
    request = b"mg nothing v\r\nlru_crawler metadump all\r\nmn\r\n"
    refused = b"EN\r\nERROR cannot pipeline other commands before metadump\r\nMN\r\n"
    poll_until(lambda: wire.ask(request) == refused, "it is refused, if no turn ends between the first two lines")


def test_others_are_served_while_a_dump_is_under_way(ours: MakeServer) -> None:
    server = ours("-m", "256")
    with Wire(server) as dumping, Wire(server) as other:
        stored(dumping, 100_000)
        dumping.send(b"lru_crawler metadump all\r\n")
        waits = []
        for _ in range(50):
            began = time.perf_counter()
            other.expect(b"get key:1\r\n", b"VALUE key:1 0 1\r\nx\r\nEND\r\n")
            waits.append(time.perf_counter() - began)
        assert sorted(waits)[len(waits) // 2] < 0.1
        dumped = bytearray()
        while not dumped.endswith(b"END\r\n"):
            dumped += dumping.socket.recv(1 << 20)
        assert dumped.count(b"key=key%3A") == 100_000


def test_a_reader_that_stops_reading_costs_no_memory(ours: MakeServer) -> None:
    server = ours("-m", "256")
    with Wire(server) as dumping, Wire(server) as other:
        stored(other, 200_000)
        before = server.resident_bytes()
        dumping.send(b"lru_crawler metadump all\r\n")
        for _ in range(20):
            other.ask(b"get key:1\r\n")
        assert server.resident_bytes() - before < 12 << 20


def test_me_shows_a_key_as_it_was_asked_for_or_at_memcached_as_it_was_stored(wire: Wire) -> None:
    wire.expect(b"ms YQ== 1 b\r\nx\r\n", b"HD\r\n")
    shown = wire.ask(b"me a\r\n").split(b" ")[1]
    assert shown == (b"a" if wire.server.kind == OURS else b"YQ==")
    assert wire.ask(b"me YQ== b x\r\n").split(b" ")[1] == b"YQ=="
