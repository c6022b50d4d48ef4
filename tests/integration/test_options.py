"""Flags that change how a whole server behaves: places for connections, the ports' file, what `stats` tells of them."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from memcache_kv.config.settings import MIB
from tests.integration.conftest import MakeServer
from tests.integration.known_differences import has_rewritten_parser
from tests.integration.wire import Wire, poll_until
from tests.program import Program, run_to_its_end


@pytest.fixture
def waiting(ours: MakeServer) -> Iterator[tuple[Wire, Wire, socket.socket]]:
    """Two clients that fill a server with no_maxconns_fast, and one that waits for a place."""
    server = ours("-c", "2", "-o", "no_maxconns_fast")
    with Wire(server) as first, Wire(server) as second, server.connect() as third:
        third.sendall(b"mn\r\n")
        poll_until(lambda: first.stats()["accepting_conns"] == "0", "it accepts no more")
        yield first, second, third


def test_over_the_limit_a_client_waits_for_a_place_when_asked_to(waiting: tuple[Wire, Wire, socket.socket]) -> None:
    first, second, third = waiting
    third.settimeout(0.5)
    with pytest.raises(TimeoutError):
        third.recv(1)
    second.close()
    third.settimeout(20)
    assert third.recv(100) == b"MN\r\n"
    stats = first.stats()
    assert stats["accepting_conns"] == "1"
    assert int(stats["listen_disabled_num"]) == 1
    assert int(stats["time_in_listen_disabled_us"]) > 400_000


def test_a_server_whose_clients_wait_for_a_place_ends_when_asked_to(waiting: tuple[Wire, Wire, socket.socket]) -> None:
    began = time.monotonic()
    assert waiting[0].server.stop() == 0
    assert time.monotonic() - began < 10


def test_the_ports_are_written_as_memcached_writes_them(tmp_path: Path) -> None:
    file = tmp_path / "ports"
    with Program("-p", "0", "-l", "127.0.0.1", MEMCACHED_PORT_FILENAME=str(file)) as program:
        poll_until(file.exists, "the file is there")
        assert file.read_text() == f"TCP INET: {program.port}\n"
        assert list(tmp_path.iterdir()) == [file]


def test_a_file_for_the_ports_that_cannot_be_written_is_said_and_passed_over(tmp_path: Path) -> None:
    with Program("-p", "0", MEMCACHED_PORT_FILENAME=str(tmp_path / "none" / "ports")) as program:
        assert program.ask(b"mn\r\n") == b"MN\r\n"
        assert b'Failed to open "' in program.said


def test_an_unknown_suboption_is_a_wrong_flag() -> None:
    done = run_to_its_end("-o", "nonsense")
    assert (done.returncode, done.stderr) == (2, 'memcache-kv: Illegal suboption "nonsense"\n')


def test_locked_memory_is_locked_or_warned_of_and_serves(ours: MakeServer) -> None:
    server = ours("-k", "-r")
    with Wire(server) as wire:
        wire.expect(b"get none\r\n", b"END\r\n")
    locked = next(line for line in Path(f"/proc/{server.pid}/status").read_text().splitlines() if "VmLck" in line)
    assert int(locked.split()[1]) > 0 or "-k invalid" in server.start_log()


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        (["-C"], "cas_enabled", "no"),
        (["-b", "100"], "tcp_backlog", "100"),
        (["-B", "auto"], "binding_protocol", "auto-negotiate"),
        (["-B", "ascii"], "binding_protocol", "ascii"),
        (["-D", "/"], "stat_key_prefix", "/"),
        (["-D", "/"], "detail_enabled", "yes"),
        (["-F"], "flush_enabled", "no"),
        (["-X"], "dump_enabled", "no"),
        (["-f", "1.5"], "growth_factor", "1.50"),
        (["-n", "64"], "chunk_size", "64"),
        (["-R", "5"], "reqs_per_event", "5"),
        (["-o", "idle_timeout=60"], "idle_timeout", "60"),
        (["-o", "no_maxconns_fast"], "maxconns_fast", "no"),
        (["-o", "no_modern"], "slab_reassign", "no"),
        (["-o", "no_lru_crawler"], "lru_crawler", "no"),
        (["-o", "lru_crawler_sleep=5"], "lru_crawler_sleep", "5"),
        (["-o", "lru_crawler_tocrawl=7"], "lru_crawler_tocrawl", "7"),
        (["-o", "hot_max_factor=0.5"], "hot_max_factor", "0.50"),
        (["-o", "temporary_ttl=9"], "temp_lru", "yes"),
        (["-o", "slab_chunk_max=16", "-I", "512k"], "slab_chunk_max", "16384"),
        (["-m", "2048", "-I", "1024m"], "item_size_max", str(1024 * MIB)),
    ],
)
def test_the_settings_tell_what_was_given_as_memcached_tells_it(
    make_server: MakeServer, flags: list[str], name: str, value: str
) -> None:
    server = make_server(*flags)
    if name == "slab_chunk_max" and not has_rewritten_parser(server):
        pytest.skip("releases before 1.6.45 do not tell it in bytes")
    with Wire(server) as wire:
        assert wire.stats(b"settings")[name] == value


def test_connections_are_listed_with_what_they_do(ours: MakeServer) -> None:
    server = ours()
    with Wire(server) as asking, Wire(server) as storing, Wire(server) as swallowed, Wire(server):
        storing.send(b"set a 0 0 6\r\nx")
        swallowed.send(b"set a 0 0 9999999\r\n")
        assert swallowed.read_line() == b"SERVER_ERROR object too large for cache\r\n"

        def states() -> list[str]:
            return [value for name, value in asking.stats(b"conns").items() if name.endswith(":state")]

        expected = ["conn_listening", "conn_nread", "conn_parse_cmd", "conn_read", "conn_swallow"]
        poll_until(lambda: sorted(states()) == expected, "each state is told")
