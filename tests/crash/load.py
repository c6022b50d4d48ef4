"""Clients that change keys of their own, and know at every moment what those keys may hold."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.integration.wire import DEADLINE, RunningServer

MASK = 2**64 - 1
COUNTER = b"shared-counter"
TOKENS = b"shared-tokens"


@dataclass(frozen=True)
class State:
    """What a key holds: for clients, and (deadline) for the server."""

    value: bytes
    flags: int = 0
    deadline: int = 0


Held: TypeAlias = State | None
Request: TypeAlias = tuple[bytes, bytes, Held]
"""What is sent, what must come back, and what the key holds afterwards."""


@dataclass
class Key:
    """What a key may hold: its last acknowledged state, and those of the attempts after that."""

    name: bytes
    candidates: list[Held] = field(default_factory=lambda: [None])

    @property
    def latest(self) -> Held:
        """The state once all attempts have succeeded."""
        return self.candidates[-1]


class Connection:
    """A client's connection that reads line by line."""

    def __init__(self, server: RunningServer) -> None:
        self.socket = socket.create_connection((server.host, server.port), timeout=DEADLINE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self.socket.makefile("rb")

    def close(self) -> None:
        self._reader.close()
        self.socket.close()

    def send(self, request: bytes) -> None:
        self.socket.sendall(request)

    def read_line(self) -> bytes:
        """Read a reply; raises ConnectionError where the server is gone."""
        line = self._reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError
        return line

    def read_block(self, length: int) -> bytes:
        """Read a value and the line's end behind it."""
        return self._reader.read(length + 2)[:-2]

    def read_reply(self) -> bytes:
        """Read a whole reply of one line, or of a `get` of one key."""
        line = self.read_line()
        if not line.startswith(b"VALUE "):
            return line
        return line + self._reader.read(int(line.split()[3]) + 2) + self.read_line()

    def gets(self, key: bytes) -> tuple[bytes, int, int] | None:
        """Ask for value, flags and CAS id of a key."""
        self.send(b"gets " + key + b"\r\n")
        line = self.read_line()
        if line == b"END\r\n":
            return None
        _, _, flags, length, cas = line.split()
        block = self._reader.read(int(length) + 2)
        assert self.read_line() == b"END\r\n"
        return block[:-2], int(flags), int(cas)


class Writer:
    """A client which sends changes of its own keys, some in batches, until the server is gone.

    `keys` says for each what a restart may find; `acknowledged` counts the replies, `failure` has what was wrong.
    """

    def __init__(self, name: str, keys: dict[bytes, Key], rng: random.Random) -> None:
        self.name = name.encode()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.keys = keys
        self.acknowledged = 0
        self.increments_sent = 0
        self.increments_acknowledged = 0
        self.tokens_sent: list[bytes] = []
        self.tokens_acknowledged: list[bytes] = []
        self.failure: BaseException | None = None
        self._rng = rng
        self._connection: Connection | None = None
        self._token_ends = b""
        self.stopping = threading.Event()

    def start(self, server: RunningServer, round_number: int) -> None:
        """Begin to change keys on this server, on a thread of its own."""
        self._connection = Connection(server)
        self._token_ends = b"%b.%d." % (self.name, round_number)
        self.thread.start()

    def _run(self) -> None:
        assert self._connection is not None
        try:
            while not self.stopping.is_set():
                self._rng.choice(self._ACTIONS)(self)
        except OSError:
            pass  # the server was killed
        except BaseException as failure:
            self.failure = failure
        finally:
            self._connection.close()

    # What it does

    def _batch(self) -> None:
        """Send several changes in one go, then read all their replies."""
        batch = [self._change(self._pick()) for _ in range(self._rng.choice((1, 1, 4, 20)))]
        self._connected.send(b"".join(request for _, (request, _, _) in batch))
        for key, (request, reply, _) in batch:
            got = self._connected.read_line()
            assert got == reply, f"{request!r} was answered {got!r} instead of {reply!r}"
            self.acknowledged += 1
            del key.candidates[0]

    def _compare_and_swap(self) -> None:
        """Take a token, change the value with it, and see that it does not fit twice."""
        key = self._pick()
        found = self._connected.gets(key.name)
        state = key.latest
        assert (found and found[:2]) == (state and (state.value, state.flags)), f"{key.name!r} holds {found!r}"
        cas = found[2] if found else 1
        value = self._value()
        request = b"cas %b 5 0 %d %d\r\n%b\r\n" % (key.name, len(value), cas, value)
        if found:
            key.candidates.append(State(value, 5))
        self._connected.send(request + request)
        first, second = self._connected.read_line(), self._connected.read_line()
        self.acknowledged += 1
        if found:
            assert (first, second) == (b"STORED\r\n", b"EXISTS\r\n")
            del key.candidates[:-1]
        else:
            assert (first, second) == (b"NOT_FOUND\r\n", b"NOT_FOUND\r\n")

    def _count(self) -> None:
        """Add to the number that all writers share."""
        self.increments_sent += 1
        self._connected.send(b"incr " + COUNTER + b" 1\r\n")
        assert int(self._connected.read_line()) > 0
        self.increments_acknowledged += 1
        self.acknowledged += 1

    def _append_token(self) -> None:
        """Append to the text that all writers share."""
        token = b"%b%d;" % (self._token_ends, len(self.tokens_sent))
        self.tokens_sent.append(token)
        self._connected.send(b"append %b 0 0 %d\r\n%b\r\n" % (TOKENS, len(token), token))
        assert self._connected.read_line() == b"STORED\r\n"
        self.tokens_acknowledged.append(token)
        self.acknowledged += 1

    _ACTIONS = (_batch, _batch, _batch, _batch, _compare_and_swap, _count, _append_token)

    # One change

    @property
    def _connected(self) -> Connection:
        assert self._connection is not None
        return self._connection

    def _pick(self) -> Key:
        name = b"%b-%d" % (self.name, self._rng.randrange(12))
        return self.keys.setdefault(name, Key(name))

    def _value(self) -> bytes:
        length = self._rng.choice((0, 1, 1, 10, 10, 10, 100, 1500))
        return self._rng.choice((b"text ", b"\xff\x00\r\n", "grün".encode(), b"7")) * length

    def _change(self, key: Key) -> tuple[Key, Request]:
        """Choose a change, and note what it makes of the key before it is sent."""
        request = self._rng.choice(self._CHANGES)(self, key.name, key.latest)
        key.candidates.append(request[2])
        return key, request

    def _set(self, key: bytes, state: Held) -> Request:
        deadline = self._rng.choice((0, 0, 0, int(time.time()) + 1000))
        new = State(self._value(), self._rng.choice((0, 1, 2**32 - 1)), deadline)
        return _storage(b"set", key, new), b"STORED\r\n", new

    def _set_number(self, key: bytes, state: Held) -> Request:
        new = State(b"%d" % self._rng.choice((0, 7, 99, MASK)))
        return _storage(b"set", key, new), b"STORED\r\n", new

    def _set_expired(self, key: bytes, state: Held) -> Request:
        return b"set %b 3 -1 4\r\ngone\r\n" % key, b"STORED\r\n", None

    def _add(self, key: bytes, state: Held) -> Request:
        if state is not None:
            return _storage(b"add", key, State(b"added")), b"NOT_STORED\r\n", state
        return _storage(b"add", key, State(b"added")), b"STORED\r\n", State(b"added")

    def _append(self, key: bytes, state: Held) -> Request:
        before = self._rng.choice((False, True))
        request = _storage(b"prepend" if before else b"append", key, State(b"<more>"))
        if state is None:
            return request, b"NOT_STORED\r\n", None
        if len(state.value) > 20_000:
            return self._delete(key, state)
        value = b"<more>" + state.value if before else state.value + b"<more>"
        return request, b"STORED\r\n", State(value, state.flags, state.deadline)

    def _arithmetic(self, key: bytes, state: Held) -> Request:
        if state is None:
            return b"incr %b 1\r\n" % key, b"NOT_FOUND\r\n", None
        if not state.value.isdigit() or len(state.value) > 20 or int(state.value) > MASK:
            return self._set_number(key, state)
        name, amount = self._rng.choice(((b"incr", 1), (b"incr", 95), (b"decr", 3)))
        number = int(state.value) + (amount if name == b"incr" else -amount)
        digits = b"%d" % (max(number, 0) & MASK)
        if len(digits) < len(state.value):
            return self._delete(key, state)
        return b"%b %b %d\r\n" % (name, key, amount), digits + b"\r\n", State(digits, state.flags, state.deadline)

    def _delete(self, key: bytes, state: Held) -> Request:
        return b"delete %b\r\n" % key, b"DELETED\r\n" if state is not None else b"NOT_FOUND\r\n", None

    def _touch(self, key: bytes, state: Held) -> Request:
        deadline = self._rng.choice((0, int(time.time()) + 5000))
        request = b"touch %b %d\r\n" % (key, deadline)
        if state is None:
            return request, b"NOT_FOUND\r\n", None
        return request, b"TOUCHED\r\n", State(state.value, state.flags, deadline)

    _CHANGES: tuple[Callable[[Writer, bytes, Held], Request], ...] = (
        _set, _set, _set_number, _set_expired, _add, _append, _arithmetic, _arithmetic, _arithmetic, _delete, _touch,
    )  # fmt: skip


def _storage(name: bytes, key: bytes, new: State) -> bytes:
    return b"%b %b %d %d %d\r\n%b\r\n" % (name, key, new.flags, new.deadline, len(new.value), new.value)
