"""A real server under load while strace records what it does, and what it promised to whom until when.

Every write of the load stores a value that no other write stores, or deletes a key. So what a start finds says up to
which record of the journal it has everything.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeAlias

from memcache_kv.journal import Fsync
from tests.crash.load import Connection
from tests.crash.platter import Names, Platter, WrittenFile
from tests.crash.traced_server import SENT, Call, TracedServer
from tests.integration.wire import DEADLINE, RunningServer, Wire

CLIENTS = 6
KEYS_OF_A_CLIENT = 12
BATCHES = 45
"""How many times a client sends requests in one life of the server."""
IN_FLIGHT = 8
PAUSE_SECONDS = 0.05
LINES_BETWEEN_LIVES = 1000

Request: TypeAlias = tuple[bytes, bytes | None]
"""A key, and the value that it has afterwards."""


class Client:
    """A client with keys of its own. `requests` are those that it has sent, `ports` its own in each life."""

    def __init__(self, number: int, seed: int) -> None:
        self.requests: list[Request] = []
        self.ports: list[int] = []
        self.failure: BaseException | None = None
        self._rng = Random(seed)
        self._keys = [b"c%d-%d" % (number, key) for key in range(KEYS_OF_A_CLIENT)]
        self._present: set[bytes] = set()

    def run(self, server: RunningServer) -> None:
        """Send requests in batches; each is answered before the next one is sent."""
        try:
            with closing(Connection(server)) as connection:
                self.ports.append(connection.socket.getsockname()[1])
                for _ in range(BATCHES):
                    self._send_batch(connection)
        except BaseException as error:
            self.failure = error

    def _send_batch(self, connection: Connection) -> None:
        batch = [self._request() for _ in range(self._rng.randint(1, IN_FLIGHT))]
        self.requests += batch
        connection.send(b"".join(wire_form(key, value) for key, value in batch))
        for _, value in batch:
            reply = connection.read_line()
            assert reply == (b"DELETED\r\n" if value is None else b"STORED\r\n"), reply
        if self._rng.random() < 0.5:
            time.sleep(self._rng.uniform(0, PAUSE_SECONDS))

    def _request(self) -> Request:
        key = self._rng.choice(self._keys)
        if key in self._present and self._rng.random() < 0.1:
            self._present.discard(key)
            return key, None
        self._present.add(key)
        size = self._rng.choice((20, 100, 900)) if self._rng.random() < 0.97 else self._rng.randint(4000, 50_000)
        return key, (b"%x " % self._rng.getrandbits(64)).ljust(size, self._rng.choice((b"x", b"\xff")))


def wire_form(key: bytes, value: bytes | None) -> bytes:
    """Return the request that gives a key this value, or deletes it."""
    return b"delete %b\r\n" % key if value is None else b"set %b 0 0 %d\r\n%b\r\n" % (key, len(value), value)


@dataclass(frozen=True, eq=False)
class Kept:
    """A record of a change: in which file, up to which length of it, and what it does."""

    file: WrittenFile
    end: int
    request: Request


def records_of(file: WrittenFile) -> Iterator[Kept]:
    """Yield the records of changes in an increment."""
    end = 0
    for line in bytes(file.content()).splitlines(keepends=True):
        end += len(line)
        record = json.loads(line)
        if record["op"] in ("set", "delete"):
            value = base64.b64decode(record["value64"]) if "value64" in record else record.get("value", "").encode()
            yield Kept(file, end, (record["key"].encode(), None if record["op"] == "delete" else value))


class TracedRun:
    """Lives of a server on one journal, with rewrites. All but the last one end with kill -9, without load.

    program: Python code to run in place of the server, for one that does something wrong.
    """

    def __init__(self, journal: Path, fsync: Fsync, seed: int, program: str = "", lives: int = 2) -> None:
        self.fsync = fsync
        self.platter = Platter(journal)
        self.rng = Random(seed)
        self._journal = journal
        self._program = program
        self._clients = [Client(number, self.rng.getrandbits(64)) for number in range(CLIENTS)]
        self._calls: list[Call] = []
        self._births: list[int] = []
        journal.mkdir()
        for number in range(1, lives + 1):
            self._live(is_killed=number < lives)
        self.records = list(self._read_records())
        """What changed something, in the order of the journal."""
        self._replies = list(self._read_replies())

    def _live(self, is_killed: bool) -> None:
        """Start a server, load it and end it."""
        traced = TracedServer(self._journal, self.fsync, self._program)
        with closing(traced.server):
            self._load(traced.server)
            if is_killed:
                traced.server.kill()
        calls = traced.calls(self._calls[-1].entered + LINES_BETWEEN_LIVES if self._calls else 0)
        self._births.append(calls[0].entered)
        self.platter.follow(calls)
        self._calls += calls

    def _load(self, server: RunningServer) -> None:
        """Let all clients send their requests."""
        threads = [threading.Thread(target=client.run, args=(server,)) for client in self._clients]
        for thread in threads:
            thread.start()
        self._rewrite_while(threads, server)
        for client in self._clients:
            if client.failure is not None:
                raise client.failure

    def _rewrite_while(self, threads: list[threading.Thread], server: RunningServer) -> None:
        """Ask for rewrites until the clients have ended."""
        give_up_at = time.monotonic() + DEADLINE * 3
        with Wire(server) as wire:
            while any(thread.is_alive() for thread in threads):
                assert time.monotonic() < give_up_at
                wire.ask(b"journal compact\r\n")
                time.sleep(self.rng.uniform(0, 0.2))

    def _read_records(self) -> Iterator[Kept]:
        for change in self.platter.name_changes:
            if not change.old and change.new.startswith("increment-"):
                yield from records_of(change.file)

    def _read_replies(self) -> Iterator[tuple[Call, int]]:
        """Yield the calls that sent replies to writes, and how many records there must be by the last of them."""
        by_port = {port: client for client in self._clients for port in client.ports}
        acknowledged = dict.fromkeys(self._clients, 0)
        positions = self._positions()
        for call in self._calls:
            client = by_port.get(call.client_port) if call.name in (*SENT.split(","), "write") else None
            if client is not None:
                data = call.strings()[0]
                acknowledged[client] += (data if call.result < 0 else data[: call.result]).count(b"\n")
                yield call, positions[client][acknowledged[client] - 1] + 1

    def _positions(self) -> dict[Client, list[int]]:
        """Return where in the journal each client's requests are. Fails if one is missing, or out of order."""
        of_key: dict[bytes, list[int]] = defaultdict(list)
        for number, record in enumerate(self.records):
            of_key[record.request[0]].append(number)
        found: dict[Client, list[int]] = {}
        for client in self._clients:
            turns = {key: iter(numbers) for key, numbers in of_key.items()}
            numbers_found = [next(turns.get(key, iter(())), -1) for key, _ in client.requests]
            assert -1 not in numbers_found, f"{client.requests[numbers_found.index(-1)]!r:.100} was not written at all"
            found[client] = numbers_found
            for number, request in zip(found[client], client.requests, strict=True):
                there = self.records[number].request
                assert there == request, f"record {number} is {there!r:.100}, and {request!r:.100} was sent"
            assert found[client] == sorted(found[client])
        assert sum(map(len, found.values())) == len(self.records)
        return found

    # What was promised

    def begun(self, at: int) -> int:
        """Return how many records may be there at a line of the trace."""
        lengths = {
            id(file): self._length(file, sum(change.call.entered < at for change in file.changes))
            for file in self.platter.files
        }
        return sum(record.end <= lengths[id(record.file)] for record in self.records)

    def synced(self, at: int, names: Names) -> int:
        """Return up to which record the files, and their names, were synced by a line of the trace."""
        count = 0
        for change in self.platter.name_changes:
            if change.old or not change.new.startswith("increment-"):
                continue
            if not self.platter.are_names_durable(change, at, names):
                break
            durable = self._length(change.file, change.file.sure_changes(at))
            count += sum(record.file is change.file and record.end <= durable for record in self.records)
            if durable < self._length(change.file, None):
                break
        return count

    def acknowledged(self, at: int) -> int:
        """Return how many records there must be so that no acknowledged write is missing at a line of the trace."""
        return max((count for call, count in self._replies if call.entered < at), default=0)

    def check_writes_before_replies(self) -> None:
        """Fail if a reply was sent before a write had returned that took its record to the file.

        If none was, kill -9 loses nothing acknowledged at any time of the run.
        """
        written = self._written_at()
        for call, count in self._replies:
            assert written[count] < call.entered, f"record {count - 1} was not written when {call} was made"

    def _written_at(self) -> list[float]:
        """Return, for each number of records, the line at which the system had taken all of them."""
        written: list[float] = [-1]
        for file in dict.fromkeys(record.file for record in self.records):
            ends = [record.end for record in self.records if record.file is file]
            length, position = 0, 0
            for change in file.changes:
                length = length + len(change.data) if change.length is None else change.length
                while position < len(ends) and ends[position] <= length:
                    written.append(max(written[-1], change.call.left))
                    position += 1
        return written

    def seconds_unsynced(self, at: int, count: int) -> float:
        """Return for how long, at a line of the trace, a write has been acknowledged that is not among `count` records.

        The time between the two lives does not count: writes of the first one are left out in the second.
        """
        born = self._births[1] if at > self._births[1] else self._births[0]
        now = max((call.began_at for call in self._calls if call.entered <= at), default=0.0)
        replies = (call for call, most in self._replies if born < call.entered < at and most > count)
        return max((now - call.began_at for call in replies), default=0.0)

    @staticmethod
    def _length(file: WrittenFile, count: int | None) -> int:
        return len(file.content(count))
