"""Commands about the server: the same answers from ours and from memcached."""

import pytest

from tests.integration.conftest import MakeServer
from tests.integration.known_differences import has_rewritten_parser
from tests.integration.wire import DEADLINE, Wire, poll_until
from tests.protocol.text.admin_cases import CASES


def skip_older_releases(wire: Wire) -> None:
    if not has_rewritten_parser(wire.server):
        pytest.skip("releases before the rewritten parser answer these lines in other ways")


def test_every_line_has_memcacheds_answer(make_server: MakeServer) -> None:
    with Wire(make_server()) as wire:
        skip_older_releases(wire)
        for line, reply in CASES:
            wire.expect(line + b"\r\n", reply)


def test_a_crawler_that_rests_refuses_to_work_until_enabled(make_server: MakeServer) -> None:
    rests = b"CLIENT_ERROR lru crawler disabled\r\n"
    with Wire(make_server()) as wire:
        skip_older_releases(wire)
        wire.session((b"lru_crawler disable\r\n", b"OK\r\n"), (b"lru_crawler disable\r\n", b"OK\r\n"))
        poll_until(lambda: wire.stats(b"settings")["lru_crawler"] == "no", "memcached's thread has ended")
        wire.session(
            (b"lru_crawler crawl all\r\n", rests),
            (b"lru_crawler metadump all\r\n", rests),
            (b"lru_crawler mgdump x\r\n", rests),
        )


def test_flush_all_is_refused_where_it_is_disabled(make_server: MakeServer) -> None:
    with Wire(make_server("-F")) as wire:
        wire.session(
            (b"set k 0 0 1\r\nx\r\n", b"STORED\r\n"),
            (b"flush_all\r\n", b"CLIENT_ERROR flush_all not allowed\r\n"),
            (b"flush_all x\r\n", b"CLIENT_ERROR flush_all not allowed\r\n"),
            (b"flush_all noreply\r\n", b""),
            (b"get k\r\n", b"VALUE k 0 1\r\nx\r\nEND\r\n"),
        )
        assert wire.stats()["cmd_flush"] == "3"


def test_dumps_are_refused_where_they_are_disabled(make_server: MakeServer) -> None:
    with Wire(make_server("-X")) as wire:
        skip_older_releases(wire)
        wire.session(
            (b"stats cachedump 1 0\r\n", b"CLIENT_ERROR stats cachedump not allowed\r\n"),
            (b"stats detail on\r\n", b"CLIENT_ERROR stats detail not allowed\r\n"),
            (b"lru_crawler metadump all\r\n", b"ERROR metadump not allowed\r\n"),
            (b"lru_crawler mgdump all\r\n", b"ERROR key dump not allowed\r\n"),
        )


def test_the_clock_can_be_moved(ours: MakeServer) -> None:
    with Wire(ours("--debug-commands")) as wire:
        wire.session(
            (b"debugtime p\r\n", b"OK\r\n"),
            (b"set k 0 100 1\r\nx\r\n", b"STORED\r\n"),
            (b"debugtime 99\r\n", b"OK\r\n"),
            (b"get k\r\n", b"VALUE k 0 1\r\nx\r\nEND\r\n"),
            (b"debugtime 1\r\n", b"OK\r\n"),
            (b"get k\r\n", b"END\r\n"),
            (b"debugtime r\r\n", b"OK\r\n"),
        )
        assert int(wire.stats()["uptime"]) >= 100


def test_the_clock_stays_where_deadlines_are_kept(ours: MakeServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    refusal = b"SERVER_ERROR debugtime not allowed\r\n"
    for flags in (["--journal", str(tmp_path_factory.mktemp("journal"))], ["-F"]):
        with Wire(ours("--debug-commands", *flags)) as wire:
            wire.session((b"debugtime 5\r\n", refusal), (b"debugtime p\r\n", refusal), (b"debugtime x\r\n", refusal))


def test_a_server_whose_clock_stands_ends_on_sigterm_though_a_client_does_not_read(ours: MakeServer) -> None:
    server = ours("--debug-commands")
    value = bytes(900_000)
    with Wire(server) as wire, server.connect() as deaf:
        wire.expect(b"set k 0 0 %d\r\n%b\r\n" % (len(value), value), b"STORED\r\n")
        wire.expect(b"debugtime p\r\n", b"OK\r\n")
        deaf.sendall(b"get k\r\n" * 20)
        assert deaf.recv(1) == b"V"
        server.process.terminate()
        assert server.process.wait(DEADLINE) == 0
