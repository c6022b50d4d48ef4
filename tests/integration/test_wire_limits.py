"""What the flags limit: connections, memory, value sizes; and where a server listens."""

import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.integration.conftest import MakeServer
from tests.integration.wire import RunningServer, Wire, poll_until
from tests.ports import free_port

MEGABYTE = 1024 * 1024
REFUSAL = b"ERROR Too many open connections\r\n"
OUT_OF_MEMORY = b"SERVER_ERROR out of memory storing object\r\n"
HUNDRED_KB = bytes(100_000)


def store(wire: Wire, key: bytes, value: bytes) -> bytes:
    """The reply to a set."""
    return wire.ask(b"set %b 0 0 %d\r\n%b\r\n" % (key, len(value), value))


def let_in(server: RunningServer) -> socket.socket | None:
    """A connection on which the server answers, or None after it refused and closed."""
    connection = server.connect()
    try:
        connection.sendall(b"mn\r\nversion\r\n")
        said = connection.recv(len(REFUSAL))
    except ConnectionError:
        said = b""
    if said and not REFUSAL.startswith(said[:6]):
        return connection
    connection.close()
    return None


def joins(inside: list[socket.socket], server: RunningServer) -> bool:
    """Whether one more client is let in among those inside."""
    connection = let_in(server)
    if connection is not None:
        inside.append(connection)
    return connection is not None


def refuses_politely(server: RunningServer) -> bool:
    """Whether a new client is told why it is turned away, and turned away."""
    with server.connect() as connection:
        said = b""
        while piece := connection.recv(100):
            said += piece
        return said == REFUSAL


def test_clients_over_the_limit_are_told_and_closed_until_one_leaves(make_server: MakeServer) -> None:
    server = make_server("-c", "30", "-t", "1")
    inside: list[socket.socket] = []
    try:
        while joins(inside, server):
            assert len(inside) <= 30
        assert len(inside) >= 5
        assert refuses_politely(server)
        assert refuses_politely(server)
        inside.pop().close()
        poll_until(lambda: joins(inside, server), "a place is free")
        assert refuses_politely(server)
    finally:
        for connection in inside:
            connection.close()


def test_our_limit_is_exact_and_counts_what_it_refused(ours: MakeServer) -> None:
    server = ours("-c", "5")
    first = Wire(server)
    poll_until(lambda: first.stats()["curr_connections"] == "1", "the start's connections are gone")
    others = [Wire(server) for _ in range(4)]
    try:
        assert refuses_politely(server)
        stats = first.stats()
        assert (stats["curr_connections"], stats["max_connections"]) == ("5", "5")
        assert stats["rejected_connections"] == "1"
        for wire in others:
            wire.expect(b"get none\r\n", b"END\r\n")
    finally:
        for wire in (first, *others):
            wire.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")
def test_a_client_which_does_not_read_is_held_back_and_later_gets_everything(make_server: MakeServer) -> None:
    server = make_server()
    value = bytes(range(250)) * 2000
    count = 300
    with Wire(server) as wire, Wire(server) as lazy:
        assert store(wire, b"large", value) == b"STORED\r\n"
        before = server.resident_bytes()
        lazy.send(b"get large\r\n" * count)
        for number in range(100):
            assert store(wire, b"k%d" % number, b"x") == b"STORED\r\n"
        assert server.resident_bytes() - before < 40 * MEGABYTE
        reply = b"VALUE large 0 500000\r\n" + value + b"\r\nEND\r\n"
        for _ in range(count):
            assert lazy.read(len(reply)) == reply
        assert server.resident_bytes() - before < 40 * MEGABYTE
        lazy.expect(b"get k0\r\n", b"VALUE k0 0 1\r\nx\r\nEND\r\n")


def test_a_client_which_does_not_read_its_many_small_replies_gets_them_all(server: RunningServer) -> None:
    with Wire(server) as wire, Wire(server) as lazy:
        assert store(wire, b"small", bytes(1000)) == b"STORED\r\n"
        for _ in range(50):
            lazy.send(b"get small\r\n" * 100)
            wire.expect(b"get none\r\n", b"END\r\n")
        reply = b"VALUE small 0 1000\r\n" + bytes(1000) + b"\r\nEND\r\n"
        lazy.expect(b"", reply * 5000)


def test_without_evictions_a_full_server_refuses_and_goes_on_reading(make_server: MakeServer) -> None:
    with Wire(make_server("-M", "-m", "8")) as wire:
        stored = 0
        while (reply := store(wire, b"k%03d" % stored, HUNDRED_KB)) == b"STORED\r\n":
            stored += 1
            assert stored < 90
        assert (reply, stored > 60) == (OUT_OF_MEMORY, True)
        for number in range(stored):
            wire.expect(b"get k%03d\r\n" % number, b"VALUE k%03d 0 100000\r\n%b\r\nEND\r\n" % (number, HUNDRED_KB))
        stats = wire.stats()
        assert (stats["evictions"], stats["curr_items"]) == ("0", str(stored))


def test_without_evictions_every_refusal_counts_for_the_class_of_what_was_refused(make_server: MakeServer) -> None:
    with Wire(make_server("-M", "-m", "8")) as wire:
        wire.expect(b"set small 0 0 1\r\nx\r\n", b"STORED\r\n")
        refused = 0
        for number in range(200):
            refused += store(wire, b"k%03d" % number, HUNDRED_KB) == OUT_OF_MEMORY
        wire.expect(b"ms meta 100000\r\n" + HUNDRED_KB + b"\r\n", OUT_OF_MEMORY)
        counts = [int(value) for name, value in wire.stats(b"items").items() if name.endswith(":outofmemory")]
    assert refused > 100
    assert counts == [0, refused + 1]


def test_without_evictions_a_place_made_by_deleting_can_be_used(make_server: MakeServer) -> None:
    with Wire(make_server("-M", "-m", "8")) as wire:
        stored = 0
        while store(wire, b"k%03d" % stored, HUNDRED_KB) == b"STORED\r\n":
            stored += 1
        wire.expect(b"set new 0 0 100000 noreply\r\n" + HUNDRED_KB + b"\r\n", b"")
        wire.session((b"get new\r\n", b"END\r\n"), (b"delete k000\r\n", b"DELETED\r\n"))
        assert store(wire, b"new", HUNDRED_KB) == b"STORED\r\n"
        assert store(wire, b"newer", HUNDRED_KB) == OUT_OF_MEMORY


def test_without_evictions_a_set_over_an_old_value_never_leaves_the_old_one(make_server: MakeServer) -> None:
    with Wire(make_server("-M", "-m", "8")) as wire:
        stored = 0
        while store(wire, b"k%03d" % stored, HUNDRED_KB) == b"STORED\r\n":
            stored += 1
        reply = store(wire, b"k001", b"x" * 100_000)
        found = wire.ask(b"get k001\r\n")
    assert (reply, found) in (
        (OUT_OF_MEMORY, b"END\r\n"),
        (b"STORED\r\n", b"VALUE k001 0 100000\r\n" + b"x" * 100_000 + b"\r\nEND\r\n"),
    )


def keys_there(wire: Wire, count: int) -> list[int]:
    """Which of the numbered keys are there."""
    return [n for n in range(count) if wire.ask(b"get k%03d\r\n" % n) != b"END\r\n"]


def test_a_full_server_evicts_the_oldest_unread_and_counts_it(make_server: MakeServer) -> None:
    with Wire(make_server("-m", "8")) as wire:
        for number in range(200):
            assert store(wire, b"k%03d" % number, HUNDRED_KB) == b"STORED\r\n"
        stats = wire.stats()
        there = keys_there(wire, 200)
    assert there == list(range(there[0], 200))
    assert 60 < len(there) < 90
    assert (int(stats["evictions"]), int(stats["curr_items"])) == (200 - len(there), len(there))
    assert int(stats["bytes"]) <= 8 * MEGABYTE


def test_what_is_read_again_and_again_outlives_what_is_not(make_server: MakeServer) -> None:
    with Wire(make_server("-m", "8")) as wire:
        assert store(wire, b"hot", HUNDRED_KB) == b"STORED\r\n"
        for number in range(300):
            assert store(wire, b"k%03d" % number, HUNDRED_KB) == b"STORED\r\n"
            wire.expect(b"get hot\r\n", b"VALUE hot 0 100000\r\n" + HUNDRED_KB + b"\r\nEND\r\n")
        assert 0 not in keys_there(wire, 300)


def test_our_limit_on_the_number_of_items_evicts_the_least_recently_used(ours: MakeServer) -> None:
    with Wire(ours("--max-items", "10", "-t", "1")) as wire:
        for number in range(10):
            assert store(wire, b"k%03d" % number, b"x") == b"STORED\r\n"
        wire.expect(b"get k000\r\n", b"VALUE k000 0 1\r\nx\r\nEND\r\n")
        assert store(wire, b"k010", b"x") == b"STORED\r\n"
        assert keys_there(wire, 11) == [0, *range(2, 11)]
        stats = wire.stats()
        assert (stats["curr_items"], stats["evictions"]) == ("10", "1")


def test_the_largest_size_of_a_value_can_be_raised(make_server: MakeServer) -> None:
    with Wire(make_server("-I", "2m")) as wire:
        value = bytes(range(200)) * 10_000
        assert store(wire, b"k", value) == b"STORED\r\n"
        wire.expect(b"get k\r\n", b"VALUE k 0 2000000\r\n" + value + b"\r\nEND\r\n")
        assert store(wire, b"k", bytes(2 * MEGABYTE)) == b"SERVER_ERROR object too large for cache\r\n"
        wire.expect(b"get k\r\n", b"END\r\n")


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """A name for a unix socket, short enough for the kernel."""
    with TemporaryDirectory(prefix="kv") as directory:
        yield Path(directory, "s")


def test_a_unix_socket_is_served_and_for_its_owner_only(make_server: MakeServer, socket_path: Path) -> None:
    server = make_server(unix=str(socket_path))
    mode = socket_path.stat().st_mode
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o700)
    with Wire(server) as wire:
        wire.session((b"set u 0 0 1\r\nx\r\n", b"STORED\r\n"), (b"get u\r\n", b"VALUE u 0 1\r\nx\r\nEND\r\n"))


@pytest.mark.parametrize(("word", "mode"), [("777", 0o777), ("0600", 0o600), ("660", 0o660)])
def test_a_unix_socket_has_the_permissions_asked_for(
    make_server: MakeServer, socket_path: Path, word: str, mode: int
) -> None:
    make_server("-a", word, unix=str(socket_path))
    assert stat.S_IMODE(socket_path.stat().st_mode) == mode


def test_a_unix_socket_left_by_a_killed_server_is_taken_over(make_server: MakeServer, socket_path: Path) -> None:
    make_server(unix=str(socket_path)).kill()
    assert socket_path.exists()
    with Wire(make_server(unix=str(socket_path))) as wire:
        wire.expect(b"get none\r\n", b"END\r\n")


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback."""
    try:
        free_port("::1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback on this machine")
def test_an_ipv6_address_is_served(make_server: MakeServer) -> None:
    with Wire(make_server(host="::1")) as wire:
        wire.session((b"set u 0 0 1\r\nx\r\n", b"STORED\r\n"), (b"get u\r\n", b"VALUE u 0 1\r\nx\r\nEND\r\n"))


def test_several_threads_serve_one_store(make_server: MakeServer) -> None:
    server = make_server("-t", "2")
    clients = [Wire(server) for _ in range(10)]
    try:
        for number, client in enumerate(clients):
            assert store(client, b"k%03d" % number, b"%03d" % number) == b"STORED\r\n"
        for client in clients:
            for number in range(10):
                client.expect(b"get k%03d\r\n" % number, b"VALUE k%03d 0 3\r\n%03d\r\nEND\r\n" % (number, number))
    finally:
        for client in clients:
            client.close()
