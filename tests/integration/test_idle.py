"""-o idle_timeout: who asks for nothing is let go, and nobody else."""

import time

from tests.integration.conftest import MakeServer
from tests.integration.wire import Wire, poll_until


def kicks(wire: Wire) -> int:
    return int(wire.stats()["idle_kicks"])


def test_an_idle_connection_is_closed_and_counted_and_a_busy_one_is_not(make_server: MakeServer) -> None:
    server = make_server("-o", "idle_timeout=1")
    with Wire(server) as busy, server.connect() as idle:
        assert kicks(busy) == 0
        poll_until(lambda: kicks(busy) == 1, "the idle connection is closed")
        assert idle.recv(1) == b""
        busy.expect(b"get none\r\n", b"END\r\n")


def test_a_client_in_the_midst_of_a_data_block_is_waited_for(make_server: MakeServer) -> None:
    server = make_server("-o", "idle_timeout=1")
    with Wire(server) as busy, Wire(server) as slow, server.connect() as idle:
        slow.send(b"set a 0 0 3\r\nx")
        poll_until(lambda: kicks(busy) >= 1, "the idle connection is closed")
        assert idle.recv(1) == b""
        give_up_at = time.monotonic() + 2
        while time.monotonic() < give_up_at:
            busy.expect(b"get none\r\n", b"END\r\n")
            time.sleep(0.2)
        slow.expect(b"yz\r\n", b"STORED\r\n")


def test_without_a_timeout_nobody_is_closed(make_server: MakeServer) -> None:
    with Wire(make_server()) as wire:
        time.sleep(3)
        wire.expect(b"get none\r\n", b"END\r\n")
