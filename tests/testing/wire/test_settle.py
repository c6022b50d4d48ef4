"""Settling: once it returns, the server has carried out all that clients had sent."""

import socket
import threading

import pytest

from memcache_kv import Server
from memcache_kv.protocol.binary.frames import HEAD, REQUEST_MAGIC, Opcode
from memcache_kv.testing.faults import fault
from memcache_kv.testing.wire import Tap
from tests.testing.wires import PATIENCE_SECONDS, RawClient

ROUNDS = 50


def quiet_set(key: bytes, value: bytes) -> bytes:
    """Return a binary setq."""
    body = bytes(8) + key + value
    return HEAD.pack(REQUEST_MAGIC << 8 | Opcode.SETQ, len(key), 8, len(body), 0, 0) + body


@pytest.mark.parametrize("ending", ["open", "closed", "quit"])
def test_what_was_sent_without_a_reply_is_carried_out(server: Server, tap: Tap, ending: str) -> None:
    for number in range(ROUNDS):
        client = RawClient(tap.address)
        client.send(b"".join(b"set %d-%d 0 0 1 noreply\r\nx\r\n" % (number, each) for each in range(100)))
        if ending == "quit":
            client.send(b"quit\r\n")
        if ending == "closed":
            client.sock.close()
        tap.settle()
        assert len(server.store) == 100 * (number + 1)
        client.sock.close()


def test_a_client_notices_nothing_and_its_calls_are_as_before(server: Server, tap: Tap) -> None:
    with RawClient(tap.address) as text, RawClient(tap.address) as binary:
        text.send(b"set a 0 0 1 noreply\r\nx\r\n")
        binary.send(quiet_set(b"b", b"y"))
        for _ in range(3):
            tap.settle()
        assert sorted(call.request.command for call in tap.calls) == ["set", "set"]
        text.expect(b"get a b\r\n", b"VALUE a 0 1\r\nx\r\nVALUE b 0 1\r\ny\r\nEND\r\n")
        binary.send(HEAD.pack(REQUEST_MAGIC << 8 | Opcode.NOOP, 0, 0, 0, 7, 0))
        assert binary.take(24)[12:16] == b"\0\0\0\7"
    assert sorted(call.request.command for call in tap.calls) == ["get", "noop", "set", "set"]


def test_replies_that_are_under_way_arrive_whole_and_in_order(server: Server, tap: Tap) -> None:
    value = b"v" * 500_000
    server.store.set("large", value)
    reply = b"VALUE large 0 500000\r\n" + value + b"\r\nEND\r\n"
    with RawClient(tap.address) as client:
        for _ in range(10):
            client.send(b"get large\r\nset a 0 0 1 noreply\r\nx\r\n")
            tap.settle()
            client.send(b"mn\r\n")
            assert client.take(len(reply) + 4) == reply + b"MN\r\n"


def test_half_a_request_is_not_waited_for(server: Server, tap: Tap) -> None:
    with RawClient(tap.address) as client:
        client.send(b"set a 0 0 1 noreply\r\nx\r\nset b 0 0 5\r\nab")
        tap.settle()
        client.expect(b"cde\r\n", b"STORED\r\n")


def test_nobody_waits_for_a_fault_to_end(tap: Tap) -> None:
    with RawClient(tap.address) as client, fault(tap, "stall", direction="upstream"):
        client.send(b"set a 0 0 1 noreply\r\nx\r\n")
        waiting = threading.Thread(target=tap.settle)
        waiting.start()
        waiting.join(PATIENCE_SECONDS)
        assert not waiting.is_alive()


def test_a_tap_does_not_share_a_port_that_is_taken(tap: Tap) -> None:
    with pytest.raises(OSError, match="in use"):
        Tap(("127.0.0.1", 1), tap.address).start()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    with Tap(("127.0.0.1", 1), address) as given:
        assert given.address == address
