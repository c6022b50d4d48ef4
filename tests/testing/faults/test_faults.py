"""Each fault does what its name says, to what it is meant for, and nothing once it has ended."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memcache_kv import Server
from memcache_kv.testing.faults import FAULTS, fault
from memcache_kv.testing.wire import Direction, Passage, Tap
from memcache_kv.traffic.wire import WireRequest
from tests.ports import free_port
from tests.testing.wires import RawClient, packet

ERROR = b"SERVER_ERROR temporary failure\r\n"
HIT_A = b"VALUE a 0 1\r\nx\r\nEND\r\n"


@pytest.fixture
def client(server: Server, tap: Tap) -> Iterator[RawClient]:
    """A connection through the tap, to a server that has two items."""
    server.store.set("a", b"x")
    server.store.set("b", b"y")
    with RawClient(tap.address) as client:
        client.expect(b"get a\r\n", HIT_A)
        yield client


def took(action: Callable[[], object]) -> float:
    """Return how many seconds something took."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


# Replies and requests that come late, or never


@pytest.mark.parametrize("direction", ["downstream", "upstream"])
def test_a_delay_lasts_as_long_as_it_says_and_is_counted(tap: Tap, client: RawClient, direction: str) -> None:
    with fault(tap, "delay", seconds=0.1, direction=direction) as delay:
        assert took(lambda: client.expect(b"get a\r\n", HIT_A)) >= 0.1
        assert delay.hits == 1
    client.expect(b"get a\r\n", HIT_A)
    assert delay.hits == 1


def test_delayed_requests_that_arrive_together_leave_together(tap: Tap, client: RawClient) -> None:
    with fault(tap, "delay", seconds=0.1):
        assert 0.1 <= took(lambda: client.expect(b"get a\r\n" * 50, HIT_A * 50)) < 4


def test_jitter_makes_delays_differ_by_the_seed_alone(tap: Tap) -> None:
    def delays(seed: int) -> list[float]:
        found = []
        delay = fault(tap, "delay", seconds=0.5, jitter=0.7, seed=seed)
        for _ in range(100):
            passage = Passage(1, Direction.DOWNSTREAM, WireRequest("get", (), b"", True), b"x")
            delay.meet(passage)
            found += [seconds for _, seconds in passage.delays]
        return found

    assert delays(3) == delays(3) != delays(4)
    assert min(delays(3)) == 0
    assert 1 < max(delays(3)) < 1.2


def test_what_is_still_held_back_at_the_end_of_a_fault_arrives_at_once(tap: Tap, client: RawClient) -> None:
    with fault(tap, "delay", seconds=3600), fault(tap, "stall", commands="mn"):
        client.send(b"get a\r\nmn\r\n")
        assert client.hears_nothing()
    assert client.take(len(HIT_A) + 4) == HIT_A + b"MN\r\n"
    client.expect(b"get a\r\n", HIT_A)


def test_a_stalled_request_does_not_reach_the_server_before_the_end(
    server: Server, tap: Tap, client: RawClient
) -> None:
    with fault(tap, "stall", direction="upstream"):
        client.send(b"set a 0 0 1\r\nz\r\n")
        assert client.hears_nothing()
        assert server.store.get("a") == b"x"
    assert client.take(8) == b"STORED\r\n"
    assert server.store.get("a") == b"z"


def test_half_a_request_that_came_during_a_fault_is_completed_after_it(tap: Tap, client: RawClient) -> None:
    with fault(tap, "error"):
        client.send(b"set a 0 0 4\r\nab")
        assert client.hears_nothing()
    client.expect(b"cd\r\n", b"STORED\r\n")


def test_half_a_request_that_came_before_a_fault_is_not_met_by_it(tap: Tap, client: RawClient) -> None:
    client.send(b"set a 0 0 4\r\nab")
    assert client.hears_nothing()
    with fault(tap, "error") as error:
        client.expect(b"cd\r\nget a\r\n", b"STORED\r\n" + ERROR)
        assert error.hits == 1


def test_a_narrow_line_takes_its_time(server: Server, tap: Tap, client: RawClient) -> None:
    server.store.set("long", b"v" * 980)
    with fault(tap, "bandwidth", bytes_per_second=5000):
        reply = b"VALUE long 0 980\r\n" + b"v" * 980 + b"\r\nEND\r\n"
        assert took(lambda: client.expect(b"get long\r\n", reply)) >= 0.15
    with fault(tap, "bandwidth", bytes_per_second=5000, direction="upstream"):
        request = b"set long 0 0 980\r\n" + b"v" * 980 + b"\r\n"
        assert took(lambda: client.expect(request, b"STORED\r\n")) >= 0.15


def test_a_reply_comes_in_pieces(tap: Tap, client: RawClient) -> None:
    with fault(tap, "cut", piece_bytes=4, pause=0.02):
        assert took(lambda: client.expect(b"get a\r\n", HIT_A)) >= 5 * 0.02
    with fault(tap, "cut", piece_bytes=4, pause=3600):
        client.send(b"get a\r\n")
        assert client.take(4) == HIT_A[:4]
        assert client.hears_nothing()
    assert client.take(len(HIT_A) - 4) == HIT_A[4:]


def test_a_lost_reply_is_lost_and_a_lost_request_too(server: Server, tap: Tap, client: RawClient) -> None:
    with fault(tap, "drop", commands="set") as drop:
        client.send(b"set a 0 0 1\r\n1\r\n")
        client.expect(b"get a\r\n", b"VALUE a 0 1\r\n1\r\nEND\r\n")
    with fault(tap, "drop", commands="set", direction="upstream") as other:
        client.send(b"set a 0 0 1\r\n2\r\n")
        client.expect(b"get a\r\n", b"VALUE a 0 1\r\n1\r\nEND\r\n")
    assert (drop.hits, other.hits) == (1, 1)
    client.expect(b"set a 0 0 1\r\n3\r\n", b"STORED\r\n")
    with fault(tap, "error", commands="set"):  # the calls can still be told apart
        client.expect(b"set a 0 0 1\r\n3\r\nget b\r\n", ERROR + b"VALUE b 0 1\r\ny\r\nEND\r\n")


# Connections that end


def test_a_reset_comes_in_place_of_the_reply(server: Server, tap: Tap, client: RawClient) -> None:
    with fault(tap, "reset", commands="set"):
        client.expect(b"get a\r\n", HIT_A)
        client.send(b"set a 0 0 1\r\nz\r\n")
        with pytest.raises(ConnectionResetError):
            client.take(1)
    assert server.store.get("a") == b"z"


def test_a_reset_of_a_request_comes_before_the_server_has_it(server: Server, tap: Tap, client: RawClient) -> None:
    with fault(tap, "reset", direction="upstream"):
        client.send(b"set a 0 0 1\r\nz\r\n")
        with pytest.raises(ConnectionResetError):
            client.take(1)
    assert server.store.get("a") == b"x"


@pytest.mark.parametrize("count", [0, 1, 10, len(HIT_A), len(HIT_A) + 5])
def test_a_connection_is_closed_after_so_many_bytes(tap: Tap, client: RawClient, count: int) -> None:
    with fault(tap, "close", after_bytes=count):
        client.send(b"get a\r\nget a\r\n")
        assert client.take(1000) == (HIT_A + HIT_A)[:count]
    with RawClient(tap.address) as other:
        other.expect(b"get a\r\n", HIT_A)


def test_each_connection_has_its_own_bytes_before_it_is_closed(tap: Tap, client: RawClient) -> None:
    with fault(tap, "close", after_bytes=30), RawClient(tap.address) as other:
        for each in (client, other):
            each.send(b"get a\r\nget a\r\n")
            assert each.take(1000) == (HIT_A + HIT_A)[:30]


def test_connections_are_refused_and_open_ones_go_on_and_the_port_stays(tap: Tap, client: RawClient) -> None:
    with fault(tap, "refuse"), fault(tap, "refuse"):
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                RawClient(tap.address)
        client.expect(b"get a\r\n", HIT_A)
        with pytest.raises(OSError, match="in use"), socket.socket() as thief:
            thief.bind(tap.address)
    with RawClient(tap.address) as other:
        other.expect(b"get a\r\n", HIT_A)


def test_the_end_of_one_refusal_ends_no_other_one(tap: Tap) -> None:
    with fault(tap, "refuse"):
        with fault(tap, "down"):
            pass
        with pytest.raises(ConnectionRefusedError):
            RawClient(tap.address)


def test_a_server_that_is_down_has_closed_all_connections(tap: Tap, client: RawClient) -> None:
    with fault(tap, "down"):
        assert client.is_closed()
        with pytest.raises(ConnectionRefusedError):
            RawClient(tap.address)
    with RawClient(tap.address) as other:
        other.expect(b"get a\r\n", HIT_A)


# Answers in place of the server's


def test_errors_are_answered_in_the_order_of_the_requests(server: Server, tap: Tap, client: RawClient) -> None:
    requests = b"get a\r\nset c 0 0 1\r\nz\r\nget b\r\nset d 0 0 1 noreply\r\nz\r\ndelete b\r\nset e 0 0 1\r\nz\r\n"
    with fault(tap, "error", commands="set") as error:
        client.expect(requests, HIT_A + ERROR + b"VALUE b 0 1\r\ny\r\nEND\r\nDELETED\r\n" + ERROR)
        assert error.hits == 3
    assert {key for key, _ in server.store.items()} == {b"a"}
    client.expect(b"set c 0 0 1\r\nz\r\n", b"STORED\r\n")


def test_quiet_requests_keep_their_order_among_answers_in_the_binary_protocol(server: Server, tap: Tap) -> None:
    server.store.set("a", b"x")
    server.store.set("c", b"z")
    requests = [packet(0x09, key, opaque=number) for number, key in enumerate((b"no", b"a", b"bad", b"no", b"c"))]
    noop = packet(0x0A, opaque=9)
    with RawClient(tap.address) as client, fault(tap, "error", keys="bad", message="why"):
        client.send(b"".join(requests) + noop)
        heads: list[bytes] = []
        while not heads or heads[-1][1] != 0x0A:
            head = client.take(24)
            heads.append(head)
            client.take(int.from_bytes(head[8:12], "big"))
    assert [(head[1], head[7], head[15]) for head in heads] == [(9, 0, 1), (9, 0x84, 2), (9, 0, 4), (10, 0, 9)]


def test_the_message_of_an_error_is_the_one_that_was_given(tap: Tap, client: RawClient) -> None:
    with fault(tap, "error", message="why not"):
        client.expect(b"get a\r\n", b"SERVER_ERROR why not\r\n")


def test_out_of_memory_is_answered_to_what_stores_something(server: Server, tap: Tap, client: RawClient) -> None:
    no_memory = b"SERVER_ERROR out of memory storing object\r\n"
    with fault(tap, "out_of_memory"), RawClient(tap.address) as binary:
        client.expect(b"get a\r\nset a 0 0 1\r\nz\r\nms a 1\r\nz\r\n", HIT_A + no_memory + no_memory)
        binary.send(packet(0x01, b"a", b"z", bytes(8)))
        assert binary.take(24)[6:8] == b"\0\x82"
        assert binary.take(13) == b"Out of memory"
    assert server.store.get("a") == b"x"


def test_everything_misses_or_the_keys_that_fit(tap: Tap, client: RawClient) -> None:
    with fault(tap, "miss") as miss:
        client.expect(b"get a b\r\nmg a v\r\ndelete a\r\nmn\r\n", b"END\r\nEN\r\nNOT_FOUND\r\nMN\r\n")
        assert miss.hits == 4
    with fault(tap, "miss", keys="b"):
        client.expect(b"get b a\r\nget b\r\n", HIT_A + b"END\r\n")
        client.expect(b"set b 0 0 1\r\nz\r\n", b"STORED\r\n")
    client.expect(b"get b\r\n", b"VALUE b 0 1\r\nz\r\nEND\r\n")


def test_the_calls_are_those_that_the_client_has_seen(tap: Tap, client: RawClient) -> None:
    with fault(tap, "error", commands="get"):
        client.expect(b"get a\r\nmn\r\n", ERROR + b"MN\r\n")
    assert [(call.request.data, call.reply) for call in tap.calls[-2:]] == [
        (b"get a\r\n", ERROR),
        (b"mn\r\n", b"MN\r\n"),
    ]


# What is met


def test_only_what_fits_is_met(tap: Tap, client: RawClient) -> None:
    with fault(tap, "error", commands=("get", "gets"), keys=re.compile("^a")):
        client.expect(b"get a\r\n", ERROR)
        client.expect(b"gets b a\r\n", ERROR)
        client.expect(b"get b\r\n", b"VALUE b 0 1\r\ny\r\nEND\r\n")
        client.expect(b"mg a v\r\n", b"VA 1\r\nx\r\n")


def test_chance_meets_the_same_requests_for_the_same_seed(tap: Tap, client: RawClient) -> None:
    def replies() -> list[bytes]:
        with fault(tap, "error", message="x", commands="touch", probability=0.5, seed=5) as error:
            client.send(b"touch no 1\r\n" * 60 + b"mn\r\n")
            heard = b""
            while not heard.endswith(b"MN\r\n"):
                heard += client.sock.recv(10_000)
            assert error.hits == heard.count(b"SERVER_ERROR")
        return heard.split(b"\r\n")

    first = replies()
    assert first == replies()
    assert 15 < first.count(b"SERVER_ERROR x") < 45


def test_faults_are_nested_and_end_one_after_the_other(tap: Tap, client: RawClient) -> None:
    with fault(tap, "delay", seconds=0.05) as delay:
        with fault(tap, "error") as error, fault(tap, "cut", piece_bytes=10, pause=0.02):
            assert took(lambda: client.expect(b"get a\r\n", ERROR)) > 0.05 + 0.06
            with fault(tap, "miss") as miss:
                client.expect(b"get a\r\n", ERROR)
                assert (error.hits, miss.hits) == (2, 0)
        assert took(lambda: client.expect(b"get a\r\n", HIT_A)) > 0.05
        assert (delay.hits, error.hits) == (3, 2)
    client.expect(b"get a\r\n", HIT_A)
    assert delay.hits == 3


def test_a_fault_that_a_test_fails_in_ends_too(tap: Tap, client: RawClient) -> None:
    with pytest.raises(ZeroDivisionError), fault(tap, "error"):
        raise ZeroDivisionError
    client.expect(b"get a\r\n", HIT_A)


def test_threads_begin_and_end_faults_beside_one_another(tap: Tap, client: RawClient) -> None:
    failures: list[BaseException] = []

    def use(kind: str) -> None:
        try:
            for _ in range(30):
                with fault(tap, kind, keys="nobody"), RawClient(tap.address) as other:
                    other.expect(b"get a\r\n", HIT_A)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(kind,)) for kind in ("error", "drop", "miss", "cut")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert all(not rules for rules in tap.rules.values())


# In the server


def test_items_are_evicted_and_counted(server: Server, tap: Tap, client: RawClient) -> None:
    for number in range(100):
        server.store.set(f"user:{number}", b"x")
    before = int(server.stats()["evictions"])
    with fault(tap, "evict", server=server, keys="user:*", probability=0.5) as some:
        assert 25 < some.hits < 75
    assert len(server.store) == 102 - some.hits
    with fault(tap, "evict", server=server):
        client.expect(b"get a\r\n", b"END\r\n")
    assert len(server.store) == 0
    assert int(server.stats()["evictions"]) - before == 102
    client.expect(b"set a 0 0 1\r\nz\r\nget a\r\n", b"STORED\r\nVALUE a 0 1\r\nz\r\nEND\r\n")


def test_items_are_evicted_also_where_the_order_of_evictions_is_kept(tap: Tap) -> None:
    with Server(max_items=50, shards=1) as server, Tap(server.address) as own:
        for number in range(80):
            server.store.set(f"k{number}", b"x")
        with fault(own, "evict", server=server, keys="k7*") as evict:
            assert evict.hits == 10
        for number in range(200):
            server.store.set(f"later{number}", b"x")
        assert len(server.store) == 50


def test_everything_is_forgotten_as_by_a_restart(server: Server, tap: Tap, client: RawClient) -> None:
    with fault(tap, "forget", server=server):
        assert client.is_closed()
    with RawClient(tap.address) as other:
        other.expect(b"get a\r\n", b"END\r\n")


def test_a_journal_that_cannot_be_written_rejects_changes_until_it_can(tmp_path: Path) -> None:
    rejected = b"SERVER_ERROR out of memory storing object\r\n"
    with Server(journal=tmp_path / "journal", fsync="always") as server, Tap(server.address) as tap:
        with RawClient(tap.address) as client:
            client.expect(b"set a 0 0 1\r\nx\r\n", b"STORED\r\n")
            with fault(tap, "journal_error", server=server):
                client.expect(b"set b 0 0 1\r\ny\r\n", rejected)
                client.expect(b"set c 0 0 1\r\ny\r\nget a\r\n", rejected + HIT_A)
            client.expect(b"set d 0 0 1\r\nz\r\n", b"STORED\r\n")
    with Server(journal=tmp_path / "journal") as later:
        assert later.store.get("d") == b"z"
        assert later.store.get("c") is None


# Mistakes


@pytest.mark.parametrize(
    ("kind", "arguments", "kind_of_error", "words"),
    [
        ("delays", {}, ValueError, "do you mean delay"),
        ("delay", {}, TypeError, "seconds"),
        ("delay", {"seconds": 1, "jiter": 1}, TypeError, "jiter"),
        ("delay", {"seconds": 1, "direction": "up"}, ValueError, "up"),
        ("error", {"direction": "upstream"}, TypeError, "no direction"),
        ("error", {"message": "a\r\nb"}, ValueError, "one line"),
        ("refuse", {"keys": "a"}, TypeError, "meets everybody"),
        ("forget", {"probability": 0.5}, TypeError, "meets everybody"),
        ("bandwidth", {"bytes_per_second": 0}, ValueError, "stall"),
        ("cut", {"piece_bytes": 0}, ValueError, "at least 1"),
        ("drop", {"probability": 2}, ValueError, "from 0 to 1"),
        ("evict", {}, ValueError, "in this process"),
    ],
)
def test_a_mistake_is_named(kind: str, arguments: dict[str, Any], kind_of_error: type[Exception], words: str) -> None:
    tap = Tap(("127.0.0.1", free_port()))
    with pytest.raises(kind_of_error, match=words):
        fault(tap, kind, **arguments)


def test_a_journal_error_needs_a_journal(server: Server, tap: Tap) -> None:
    with pytest.raises(ValueError, match="journal"), fault(tap, "journal_error", server=server):
        pass


def test_every_kind_says_what_it_does() -> None:
    assert all(kind.__doc__ for kind in FAULTS.values())
