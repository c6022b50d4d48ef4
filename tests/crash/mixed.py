"""A client that sends every kind of change, and knows what each prefix of them comes to."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from tests.crash.load import Connection
from tests.crash.model import CLOCK_SECONDS, Command, Effect, Held, State

TEXTS = [b"t%d" % number for number in range(16)]
NUMBERS = [b"n%d" % number for number in range(8)]
METAS = [b"m%d" % number for number in range(8)]
BINARIES = [b"\xffk%d" % number for number in range(6)]
ALL_KEYS = [*TEXTS, *NUMBERS, *METAS, *BINARIES]
HOURS = 7200


def fresh(held: Held) -> Effect:
    """Put this there, whatever was."""
    return lambda old: (b"STORED\r\n", held)


class Mix:
    """Commands of all kinds on a client's keys; `history` has those that were sent.

    waits: whether a `flush_all` that waits is among them.
    """

    def __init__(self, connection: Connection, rng: random.Random, first_number: int, waits: bool) -> None:
        self.connection = connection
        self.history: list[Command] = []
        self.tokens: dict[bytes, tuple[bytes, int]] = {}
        """The CAS id of a value that a key had."""
        self.number = first_number
        """Makes each value another."""
        self._rng = rng
        self._waits = waits
        self._flush_at = 0.0

    def run(self, over: threading.Event) -> None:
        """Send batches until the server is gone."""
        try:
            while not over.is_set():
                self._batch()
        except OSError:
            pass

    def _batch(self) -> None:
        if self._flush_at and time.time() > self._flush_at - 0.3:
            time.sleep(self._flush_at + CLOCK_SECONDS - time.time())  # so that it is known what came before it
            self.connection.send(b"version\r\n")
            self.connection.read_line()  # it is still there
            self.history.append(Command(b"", is_flushed=True, reply=b"", answered_at=time.time()))
            self._flush_at = 0.0
        batch = [self._command() for _ in range(self._rng.choice((1, 1, 5, 20)))]
        self.history += batch
        self.connection.send(b"".join(command.request for command in batch))
        for command in batch:
            reply = self.connection.read_reply()
            command.reply, command.answered_at = reply, time.time()
        if self._rng.random() < 0.2:
            self._compare_and_swap()

    def _compare_and_swap(self) -> None:
        key = self._rng.choice(TEXTS)
        found = self.connection.gets(key)
        if found is None:
            return
        self.tokens[key] = found[0], found[2]
        new = Held(self._value())

        def effect(old: State) -> tuple[bytes, State]:
            return (b"STORED\r\n", new) if old else (b"NOT_FOUND\r\n", None)

        request = b"cas %b 0 0 %d %d\r\n%b\r\n" % (key, len(new.value), found[2], new.value)
        command = Command(request, key, effect)
        if self._rng.random() < 0.5:  # otherwise the token stays good
            self.history.append(command)
            self.connection.send(request)
            command.reply, command.answered_at = self.connection.read_reply(), time.time()

    # The commands

    def _command(self) -> Command:
        if self._rng.random() < 0.004:
            return Command(b"journal compact\r\n", replies=(b"OK\r\n", b"BUSY currently rewriting the journal\r\n"))
        if not self._flush_at and self._rng.random() < 0.002:
            return self._flush()
        return self._rng.choice(self._CHANGES)(self)

    def _flush(self) -> Command:
        if not self._waits or self._rng.random() < 0.5:
            return Command(b"flush_all\r\n", replies=(b"OK\r\n",), flush_at=0)
        self._flush_at = int(time.time()) + 2
        request = b"flush_all %d\r\n" % (self._flush_at + 1)  # as its last second begins
        return Command(request, replies=(b"OK\r\n",), flush_at=self._flush_at)

    def _value(self) -> bytes:
        self.number += 1
        filler = self._rng.choice((b"", b"text", b"\xff\x00\r\n", "grün".encode())) * self._rng.choice((1, 10, 500))
        return b"%d:%b" % (self.number, filler)

    def _deadline(self) -> int:
        now = int(time.time())
        return self._rng.choice((0, 0, 0, now + HOURS, now + HOURS * 2, now + 2, now + 1))

    def _set(self) -> Command:
        key = self._rng.choice((*TEXTS, *BINARIES))
        held = Held(self._value(), self._rng.choice((0, 1, 2**32 - 1)), self._deadline())
        return Command(_storage(b"set", key, held), key, fresh(held))

    def _set_expired(self) -> Command:
        key = self._rng.choice(TEXTS)
        return Command(b"set %b 0 -1 4\r\ngone\r\n" % key, key, lambda old: (b"STORED\r\n", None), deletes=True)

    def _add(self) -> Command:
        key, held = self._rng.choice(TEXTS), Held(self._value(), 7)

        def effect(old: State) -> tuple[bytes, State]:
            return (b"NOT_STORED\r\n", old) if old else (b"STORED\r\n", held)

        return Command(_storage(b"add", key, held), key, effect)

    def _append(self) -> Command:
        key, more = self._rng.choice((*TEXTS, *BINARIES)), b"<%d>" % self.number
        name = self._rng.choice((b"append", b"prepend"))

        def effect(old: State) -> tuple[bytes, State]:
            if old is None:
                return b"NOT_STORED\r\n", None
            return b"STORED\r\n", replace(old, value=old.value + more if name == b"append" else more + old.value)

        return Command(_storage(name, key, Held(more)), key, effect)

    def _set_number(self) -> Command:
        key, held = self._rng.choice(NUMBERS), Held(b"%d" % self._rng.randrange(5 * 10**9, 6 * 10**9))
        return Command(_storage(b"set", key, held), key, fresh(held))

    def _arithmetic(self) -> Command:
        key, amount = self._rng.choice(NUMBERS), self._rng.randrange(-1000, 1000)

        def effect(old: State) -> tuple[bytes, State]:
            if old is None:
                return b"NOT_FOUND\r\n", None
            digits = b"%d" % (int(old.value) + amount)
            return digits + b"\r\n", replace(old, value=digits)

        name = b"incr" if amount >= 0 else b"decr"
        return Command(b"%b %b %d\r\n" % (name, key, abs(amount)), key, effect)

    def _delete(self) -> Command:
        key = self._rng.choice(ALL_KEYS)

        def effect(old: State) -> tuple[bytes, State]:
            return b"DELETED\r\n" if old else b"NOT_FOUND\r\n", None

        return Command(b"delete %b\r\n" % key, key, effect, deletes=True)

    def _touch(self) -> Command:
        key, deadline = self._rng.choice((*TEXTS, *NUMBERS)), self._deadline()

        def effect(old: State) -> tuple[bytes, State]:
            return (b"TOUCHED\r\n", replace(old, deadline=deadline)) if old else (b"NOT_FOUND\r\n", None)

        return Command(b"touch %b %d\r\n" % (key, deadline), key, effect)

    def _get_and_touch(self) -> Command:
        key, deadline = self._rng.choice((*TEXTS, *BINARIES)), self._deadline()

        def effect(old: State) -> tuple[bytes, State]:
            if old is None:
                return b"END\r\n", None
            head = b"VALUE %b %d %d\r\n" % (key, old.flags, len(old.value))
            return head + old.value + b"\r\nEND\r\n", replace(old, deadline=deadline)

        return Command(b"gat %d %b\r\n" % (deadline, key), key, effect)

    def _meta_set(self) -> Command:
        key, held = self._rng.choice(METAS), Held(self._value())
        request = b"ms %b %d E%d\r\n%b\r\n" % (key, len(held.value), 1000 + self.number, held.value)
        return Command(request, key, lambda old: (b"HD\r\n", held))

    def _meta_set_invalid(self) -> Command:
        """Set with a CAS id that is older than the item's: what is stored is stale, and expires as what was there."""
        key, value = self._rng.choice(METAS), self._value()

        def effect(old: State) -> tuple[bytes, State]:
            return (b"HD\r\n", Held(value, 0, old.deadline, stale=True)) if old else (b"NF\r\n", None)

        return Command(b"ms %b %d C1 I E%d\r\n%b\r\n" % (key, len(value), 1000 + self.number, value), key, effect)

    def _invalidate(self) -> Command:
        key, deadline = self._rng.choice(METAS), int(time.time()) + HOURS

        def effect(old: State) -> tuple[bytes, State]:
            return (b"HD\r\n", replace(old, stale=True, deadline=deadline)) if old else (b"NF\r\n", None)

        return Command(b"md %b I T%d\r\n" % (key, HOURS), key, effect)

    _CHANGES: tuple[Callable[[Mix], Command], ...] = (
        _set, _set, _set, _set_expired, _add, _append, _set_number, _arithmetic, _arithmetic, _delete, _touch,
        _get_and_touch, _meta_set, _meta_set, _meta_set_invalid, _invalidate,
    )  # fmt: skip


def _storage(name: bytes, key: bytes, new: Held) -> bytes:
    return b"%b %b %d %d %d\r\n%b\r\n" % (name, key, new.flags, new.deadline, len(new.value), new.value)


def look(connection: Connection, key: bytes) -> State:
    """Find out all that can be found out about a key."""
    connection.send(b"mg %b v f t s\r\n" % key)
    line = connection.read_line()
    if line == b"EN\r\n":
        return None
    _, length, *words = line.split()
    value = connection.read_block(int(length))
    facts = {word[:1]: word[1:] for word in words}
    remaining = int(facts[b"t"])
    deadline = int(time.time()) + remaining if remaining >= 0 else 0
    return Held(value, int(facts[b"f"]), deadline, b"X" in facts)
