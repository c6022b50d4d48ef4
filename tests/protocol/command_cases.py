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


Command: TypeAlias = Count


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


def counted(before: bytes, amount: int, number: int, after: bytes, is_up: bool = True) -> CommandCase:
    """One number that is counted up or down, and keeps its flags and its deadline."""
    name, kept = "incr" if is_up else "decr", Kept(before, 3, 60)
    result = Result(Outcome.STORED, number)
    described = f"{name} {before.decode()!r} by {amount}"
    return CommandCase(described, kept, Count(amount, is_up), result, Kept(after, 3, 60), {f"{name}_hits": 1})


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

PLAIN_CASES = [*ARITHMETIC]
CONDITIONAL_CASES = [*CONDITIONAL_ARITHMETIC]


def before(case: CommandCase) -> Surroundings:
    """A server with the item that the case begins with."""
    around = Surroundings()
    if case.before is not None:
        value, flags, ttl = case.before
        deadline = around.store.deadline(ttl)
        around.store.write(Write(Mode.SET, KEY, pack(flags, value), deadline, new_cas=CAS))
    return around


def check(case: CommandCase, carry_out: Callable[[Surroundings], Result]) -> None:
    """Carry out a case: its result, what is kept afterwards, and what was counted."""
    around = before(case)
    assert carry_out(around) == case.result
    assert {name: count for name, count in around.counts().items() if count} == case.counts
    entry = around.store.peek(KEY)
    if entry is None:
        assert case.after is None
        return
    wire_bytes, deadline = wire_bytes_of(entry), deadline_of(entry)
    ttl = deadline - around.clock.now if deadline else 0
    assert Kept(value_of(wire_bytes), flags_of(wire_bytes), ttl) == case.after
