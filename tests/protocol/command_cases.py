"""What commands do, whatever the protocol: the state before, the command, what became of it, the state after.

The wire tests of each protocol run the whole table, each with its own way to write a command and to read its reply.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from memcache_kv.store import Mode, Outcome
from memcache_kv.store.entry import deadline_of, flags_of, pack, value_of, wire_bytes_of
from memcache_kv.store.writes import Write
from tests.protocol.context_factory import Surroundings

KEY = b"k"
CAS = 7
"""The CAS id of the item that is there before."""
OTHER_CAS = 9
LARGEST = 2**64 - 1
TTL, NEW_TTL = 6000, 3000
"""Seconds; so many that no test is too slow to find the item."""
NO_NUMBERS = (b"", b"abc", b"-1", b"1.5", b"18446744073709551616", b"12abc")


class Kept(NamedTuple):
    """What is kept for the key."""

    value: bytes
    flags: int = 5
    ttl: int = 0


class Count(NamedTuple):
    """incr or decr; `cas` and `initial` only where the protocol has them."""

    amount: int
    is_up: bool = True
    cas: int = 0
    initial: int | None = None


class Delete(NamedTuple):
    """delete; `cas` only where the protocol has it."""

    cas: int = 0


class Store(NamedTuple):
    """A storage command with a value of its own flags."""

    mode: Mode
    value: bytes = b"new"
    flags: int = 8
    ttl: int = 0
    cas: int = 0


class Touch(NamedTuple):
    """touch."""

    ttl: int


Command: TypeAlias = Count | Delete | Store | Touch


class Result(NamedTuple):
    """What the reply says."""

    outcome: Outcome
    number: int | None = None


@dataclass
class CommandCase:
    """One command: what is kept before it and after it, and what it is counted as."""

    name: str
    before: Kept | None
    command: Command
    result: Result
    after: Kept | None
    counts: dict[str, int] = field(default_factory=dict)
    meta_counts: dict[str, int] | None = None
    """What the meta protocol counts, where that differs, as it does in memcached."""


def counted(before: bytes, amount: int, number: int, after: bytes, is_up: bool = True) -> CommandCase:
    """One number that is counted up or down, and keeps its flags and its deadline."""
    name, kept = "incr" if is_up else "decr", Kept(before, 3, TTL)
    result = Result(Outcome.STORED, number)
    described = f"{name} {before.decode()!r} by {amount}"
    return CommandCase(described, kept, Count(amount, is_up), result, Kept(after, 3, TTL), {f"{name}_hits": 1})


def unchanged(name: str, before: Kept | None, command: Command, outcome: Outcome, **counts: int) -> CommandCase:
    """A command that leaves what is there."""
    return CommandCase(name, before, command, Result(outcome), before, counts)


ARITHMETIC = [
    counted(b"5", 1, 6, b"6"),
    counted(b"99", 1, 100, b"100"),
    counted(b"5", 0, 5, b"5"),
    counted(b"0", LARGEST, LARGEST, b"18446744073709551615"),
    counted(b"18446744073709551615", 1, 0, b"0".ljust(20)),
    counted(b"18446744073709551615", LARGEST, LARGEST - 1, b"18446744073709551614"),
    counted(b"9 ", 1, 10, b"10"),
    counted(b"007", 1, 8, b"8  "),
    counted(b"12 abc", 1, 13, b"13    "),
    counted(b" 12", 1, 13, b"13 "),
    counted(b"10", 1, 9, b"9 ", is_up=False),
    counted(b"5", 6, 0, b"0", is_up=False),
    counted(b"5", 0, 5, b"5", is_up=False),
    counted(b"1000", LARGEST, 0, b"0   ", is_up=False),
    *[unchanged(f"incr {word!r}", Kept(word), Count(1), Outcome.NON_NUMERIC) for word in NO_NUMBERS],
    unchanged("decr of a word", Kept(b"abc"), Count(1, is_up=False), Outcome.NON_NUMERIC),
    unchanged("incr of nothing", None, Count(1), Outcome.NOT_FOUND, incr_misses=1),
    unchanged("decr of nothing", None, Count(1, is_up=False), Outcome.NOT_FOUND, decr_misses=1),
]

CONDITIONAL_ARITHMETIC = [
    CommandCase("incr with the CAS id", Kept(b"1"), Count(2, cas=CAS), Result(Outcome.STORED, 3), Kept(b"3"),
                {"incr_hits": 1}),
    unchanged("incr with another CAS id", Kept(b"1"), Count(2, cas=OTHER_CAS), Outcome.EXISTS),
    unchanged("decr with another CAS id", Kept(b"1"), Count(2, False, OTHER_CAS), Outcome.EXISTS),
    unchanged("no number and another CAS id", Kept(b"x"), Count(2, cas=OTHER_CAS), Outcome.EXISTS),
    unchanged("no number with the CAS id", Kept(b"x"), Count(2, cas=CAS), Outcome.NON_NUMERIC),
    unchanged("an empty value is no number under any CAS id", Kept(b""), Count(2, cas=OTHER_CAS), Outcome.NON_NUMERIC),
    CommandCase("incr makes what is missing", None, Count(2, initial=10), Result(Outcome.STORED, 10), Kept(b"10", 0)),
    CommandCase("decr makes what is missing", None, Count(2, False, initial=LARGEST),
                Result(Outcome.STORED, LARGEST), Kept(b"18446744073709551615", 0)),
    CommandCase("a CAS id is no condition where nothing is kept", None, Count(2, cas=OTHER_CAS, initial=3),
                Result(Outcome.STORED, 3), Kept(b"3", 0)),
    CommandCase("an initial number is not used where one is kept", Kept(b"1"), Count(2, initial=10),
                Result(Outcome.STORED, 3), Kept(b"3"), {"incr_hits": 1}),
]  # fmt: skip
"""What only the meta and the binary protocol can ask for."""

DELETE = [
    CommandCase("delete", Kept(b"old"), Delete(), Result(Outcome.DELETED), None, {"delete_hits": 1}),
    CommandCase("delete of a long value", Kept(b"o" * 5000, ttl=TTL), Delete(), Result(Outcome.DELETED), None,
                {"delete_hits": 1}),
    unchanged("delete of nothing", None, Delete(), Outcome.NOT_FOUND, delete_misses=1),
]  # fmt: skip

CONDITIONAL_DELETE = [
    CommandCase("delete with the CAS id", Kept(b"old"), Delete(CAS), Result(Outcome.DELETED), None, {"delete_hits": 1}),
    CommandCase("delete with another CAS id", Kept(b"old"), Delete(OTHER_CAS), Result(Outcome.EXISTS), Kept(b"old"),
                {}, {"delete_misses": 1}),
    unchanged("delete with a CAS id of nothing", None, Delete(CAS), Outcome.NOT_FOUND, delete_misses=1),
]  # fmt: skip

OLD, NEW = Kept(b"old", 5, TTL), Kept(b"new", 8, NEW_TTL)


def stored(name: str, before: Kept | None, command: Store, after: Kept, **counts: int) -> CommandCase:
    """A storage command that stores."""
    return CommandCase(name, before, command, Result(Outcome.STORED), after, {"cmd_set": 1, **counts})


def not_stored(name: str, before: Kept | None, command: Store, outcome: Outcome, **counts: int) -> CommandCase:
    """A storage command that leaves what is there."""
    return unchanged(name, before, command, outcome, cmd_set=1, **counts)


STORAGE = [
    stored("set where nothing is", None, Store(Mode.SET, ttl=NEW_TTL), NEW),
    stored("set over a value", OLD, Store(Mode.SET, ttl=NEW_TTL), NEW),
    stored("set of an empty value", OLD, Store(Mode.SET, b"", 0), Kept(b"", 0)),
    stored("set of a long value", OLD, Store(Mode.SET, b"n" * 5000, 300), Kept(b"n" * 5000, 300)),
    stored("add where nothing is", None, Store(Mode.ADD, ttl=NEW_TTL), NEW),
    not_stored("add where something is", OLD, Store(Mode.ADD), Outcome.NOT_STORED),
    not_stored("replace where nothing is", None, Store(Mode.REPLACE), Outcome.NOT_STORED),
    stored("replace where something is", OLD, Store(Mode.REPLACE, ttl=NEW_TTL), NEW),
    not_stored("append to nothing", None, Store(Mode.APPEND), Outcome.NOT_STORED),
    not_stored("prepend to nothing", None, Store(Mode.PREPEND), Outcome.NOT_STORED),
    stored("append keeps flags and deadline", OLD, Store(Mode.APPEND), Kept(b"oldnew", 5, TTL)),
    stored("prepend keeps flags and deadline", OLD, Store(Mode.PREPEND), Kept(b"newold", 5, TTL)),
    stored("cas with the CAS id", OLD, Store(Mode.CAS, ttl=NEW_TTL, cas=CAS), NEW, cas_hits=1),
    not_stored("cas with another CAS id", OLD, Store(Mode.CAS, cas=OTHER_CAS), Outcome.EXISTS, cas_badval=1),
    not_stored("cas where nothing is", None, Store(Mode.CAS, cas=CAS), Outcome.NOT_FOUND, cas_misses=1),
]

CONDITIONAL_STORAGE = [
    stored("append with the CAS id", OLD, Store(Mode.APPEND, cas=CAS), Kept(b"oldnew", 5, TTL)),
    not_stored("append with another CAS id", OLD, Store(Mode.APPEND, cas=OTHER_CAS), Outcome.EXISTS),
    not_stored("prepend with another CAS id", OLD, Store(Mode.PREPEND, cas=OTHER_CAS), Outcome.EXISTS),
    not_stored("append with a CAS id to nothing", None, Store(Mode.APPEND, cas=CAS), Outcome.NOT_STORED),
]

MISSED, META_MISSED = {"cmd_touch": 1, "touch_misses": 1}, {"cmd_get": 1, "get_misses": 1}
LONG, LONG_TOUCHED = Kept(b"o" * 5000), Kept(b"o" * 5000, ttl=NEW_TTL)
OLD_TOUCHED = Kept(b"old", ttl=NEW_TTL)


def touched(name: str, before: Kept, command: Touch, after: Kept) -> CommandCase:
    """An item that gets a new deadline."""
    return CommandCase(name, before, command, Result(Outcome.STORED), after, {"cmd_touch": 1, "touch_hits": 1})


TOUCH = [
    touched("touch", Kept(b"old"), Touch(NEW_TTL), OLD_TOUCHED),
    touched("touch with another time", OLD, Touch(NEW_TTL), OLD_TOUCHED),
    touched("touch with 0", OLD, Touch(0), Kept(b"old")),
    touched("touch of a long value", LONG, Touch(NEW_TTL), LONG_TOUCHED),
    CommandCase("touch of nothing", None, Touch(NEW_TTL), Result(Outcome.NOT_FOUND), None, MISSED, META_MISSED),
]

PLAIN_CASES = [*ARITHMETIC, *DELETE, *STORAGE, *TOUCH]
CONDITIONAL_CASES = [*CONDITIONAL_ARITHMETIC, *CONDITIONAL_DELETE, *CONDITIONAL_STORAGE]


def before(case: CommandCase) -> Surroundings:
    """A server with the item that the case begins with."""
    around = Surroundings()
    if case.before is not None:
        value, flags, ttl = case.before
        deadline = around.store.deadline(ttl)
        around.store.write(Write(Mode.SET, KEY, pack(flags, value), deadline, new_cas=CAS))
    return around


def check(case: CommandCase, carry_out: Callable[[Surroundings], Result], is_meta: bool = False) -> None:
    """Carry out a case: its result, what is kept afterwards, and what was counted."""
    counts = case.meta_counts if is_meta and case.meta_counts is not None else case.counts
    around = before(case)
    assert carry_out(around) == case.result
    assert {name: count for name, count in around.counts().items() if count} == counts
    entry = around.store.peek(KEY)
    if entry is None:
        assert case.after is None
        return
    wire_bytes, deadline = wire_bytes_of(entry), deadline_of(entry)
    ttl = deadline - around.clock.now if deadline else 0
    assert Kept(value_of(wire_bytes), flags_of(wire_bytes), ttl) == case.after
