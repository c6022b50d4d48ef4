"""A server whose journal meets with a fault, and what a client of it was promised."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.binary_wire import BinaryWire
from tests.integration.wire import OURS, RunningServer, Wire, poll_until
from tests.protocol.binary.binary_packets import Packet

POLICIES = ["always", "everysec", "never"]
REFUSAL = b"SERVER_ERROR out of memory storing object"
NO_MEMORY = 0x82
VALUE = b"v" * 5000
MANIFEST = "manifest.json"
THREE_FILES = ["base-000002.jsonl", "increment-000002.jsonl", "increment-000003.jsonl"]
NOTICED_SECONDS = 4.0
"""It looks once a second; the rest is for a busy machine."""
SET, DELETE, GET = 0x01, 0x04, 0x00


class Scene:
    """A server on a journal; `acknowledged` has what its client was told that it is stored."""

    def __init__(self, journal: Path, fsync: str, acknowledged: dict[bytes, bytes] | None = None) -> None:
        self.journal = journal
        self.flags = ("--journal", str(journal), "--fsync", fsync, "--keep", "0")
        self.server = RunningServer(OURS, self.flags)
        self.wire = Wire(self.server)
        self.acknowledged = dict(acknowledged or {})
        self._number = len(self.acknowledged)
        self._is_open = True

    def close(self) -> None:
        """End the server, where it was not yet."""
        if self._is_open:
            self._is_open = False
            self.wire.close()
            self.server.close()

    def put(self, value: bytes = VALUE) -> bool:
        """Store a value under a new key; tell whether that was done."""
        self._number += 1
        key = b"key%d" % self._number
        reply = self._ask(b"set %b 7 0 %d\r\n%b\r\n" % (key, len(value), value))
        if reply == b"STORED\r\n":
            self.acknowledged[key] = value
            return True
        assert reply.startswith(REFUSAL), reply
        return False

    def _ask(self, request: bytes) -> bytes:
        """Ask for one reply of one line, with nothing behind it: of two, neither could be taken back."""
        self.wire.send(request)
        return self.wire.read_line()

    def put_some(self, count: int = 20, value: bytes = VALUE) -> None:
        """Store a few values, all of which are taken."""
        assert all(self.put(value) for _ in range(count))

    def stat(self, name: str) -> str:
        """One of the journal's statistics."""
        return self.wire.stats()[f"memcache_kv_journal_{name}"]

    def compact(self) -> None:
        """Rewrite the journal."""
        done = int(self.stat("compactions"))
        self.wire.expect(b"journal compact\r\n", b"OK\r\n")
        poll_until(lambda: int(self.stat("compactions")) > done, "it is rewritten")

    def make_three_files(self, value: bytes = VALUE) -> None:
        """Let the journal consist of THREE_FILES, with some values in each.

        A rewrite that fails, as something stands where it wants to write, leaves the second increment.
        """
        self.put_some(value=value)
        self.compact()
        self.put_some(value=value)
        obstacle = self.journal / "base-000003.jsonl.tmp"
        obstacle.mkdir()
        self.wire.expect(b"journal compact\r\n", b"OK\r\n")
        poll_until(lambda: self.stat("compaction_failures") == "1", "it fails")
        obstacle.rmdir()
        self.kill_and_restart()
        self.put_some(value=value)
        assert {file.name for file in self.journal.iterdir()} == {*THREE_FILES, MANIFEST, "lock"}

    def put_until_refused(self) -> None:
        """Store until a change is refused."""
        poll_until(lambda: not self.put(), "changes are refused")
        poll_until(lambda: not self.put(b"small"), "small changes too")

    def is_failing(self) -> bool:
        return self.stat("failing") == "1"

    def until_failing(self) -> None:
        """Wait until the server has noticed by itself, as nobody changes anything."""
        began = time.monotonic()
        poll_until(self.is_failing, "it is noticed")
        assert time.monotonic() - began < NOTICED_SECONDS

    def expect_refusing(self, reason: str) -> None:
        """Every kind of change is refused, reads go on, and log and statistics tell of it."""
        key, value = next(iter(self.acknowledged.items()))
        for request in (b"set %b 0 0 1\r\n1\r\n", b"delete %b\r\n", b"touch %b 0\r\n", b"append %b 0 0 1\r\n1\r\n"):
            reply = self.wire.ask(request % b"other")
            assert reply.startswith(REFUSAL), (request, reply)
        assert self.wire.ask(b"flush_all\r\n").startswith(REFUSAL)
        self.wire.expect(b"get %b\r\n" % key, b"VALUE %b 7 %d\r\n%b\r\nEND\r\n" % (key, len(value), value))
        self._expect_refusing_binary(key, value)
        assert self.is_failing()
        assert int(self.stat("refused_changes")) > 4
        line = f"{reason}; writes are rejected until it can be written; reads go on\n"
        poll_until(lambda: line in self.server.log(), "the log, which a thread writes, says so")

    def _expect_refusing_binary(self, key: bytes, value: bytes) -> None:
        with BinaryWire(self.server) as wire:
            replies = wire.ask(Packet(SET, b"other", bytes(8), b"1"), Packet(DELETE, b"other"), Packet(GET, key))
            assert [reply.status for reply in replies] == [NO_MEMORY, NO_MEMORY, 0]
            assert replies[2].value == value

    def until_written_again(self) -> None:
        """Wait until it writes again, which it finds out by itself."""
        poll_until(lambda: not self.is_failing(), "it is written again")
        poll_until(lambda: "the journal is written again, after" in self.server.log(), "the log says so")
        self.put_some()

    def until_on_disk(self) -> None:
        """Wait until all that was acknowledged is safe by the policy."""
        poll_until(lambda: self.stat("lag_records") == "0", "the lag is zero")

    def kill(self) -> None:
        """kill -9, once all is written."""
        self.until_on_disk()
        self.server.kill()
        self.close()

    def restart(self) -> None:
        """Start a server again on what is left, and see that everything acknowledged is there."""
        self.server = RunningServer(OURS, self.flags)
        self.wire, self._is_open = Wire(self.server), True
        for key, value in self.acknowledged.items():
            self.wire.expect(b"get %b\r\n" % key, b"VALUE %b 7 %d\r\n%b\r\nEND\r\n" % (key, len(value), value))

    def kill_and_restart(self) -> None:
        self.kill()
        self.restart()


def refused_start(journal: Path, policy: str = "always") -> str:
    """Start a server that must refuse to; return what it said."""
    with pytest.raises(AssertionError, match="the server ended at once with status 1\n") as caught:
        Scene(journal, policy).close()
    said = str(caught.value).partition("\n")[2]
    assert said.startswith("memcache-kv: ")
    assert said.count("\n") == 1, said
    return said


@contextmanager
def scene(journal: Path, fsync: str = "always") -> Iterator[Scene]:
    """A server, and its end."""
    found = Scene(journal, fsync)
    try:
        yield found
    finally:
        found.close()
