"""The shared table of commands over a socket: ours and memcached do the same in every protocol."""

from collections.abc import Callable

import pytest

from tests.integration.binary_wire import MARK, BinaryWire
from tests.integration.wire import RunningServer, Wire
from tests.protocol.binary import spelled as in_binary
from tests.protocol.command_cases import (
    CAS,
    CONDITIONAL_CASES,
    KEY,
    PLAIN_CASES,
    Command,
    CommandCase,
    Result,
    Touch,
)
from tests.protocol.meta import spelled as in_meta
from tests.protocol.text import spelled as in_text

SLOWNESS_SECONDS = 1000
"""A test takes less."""

plain_by_name = pytest.mark.parametrize("case", PLAIN_CASES, ids=lambda case: case.name)
all_by_name = pytest.mark.parametrize("case", [*PLAIN_CASES, *CONDITIONAL_CASES], ids=lambda case: case.name)


def check_over(wire: Wire, case: CommandCase, carry_out: Callable[[Command], Result], is_meta: bool = False) -> None:
    """Carry out a case: its result, what is kept afterwards, and what was counted."""
    command = case.command
    if case.before is not None:
        value, flags, ttl = case.before
        wire.expect(b"set %b %d %d %d\r\n%b\r\n" % (KEY, flags, ttl, len(value), value), b"STORED\r\n")
        if not isinstance(command, Touch) and command.cas:
            command = command._replace(cas=wire.cas_of(KEY) + command.cas - CAS)
    wire.expect(b"stats reset\r\n", b"RESET\r\n")
    assert carry_out(command) == case.result
    stats = wire.stats()
    counts = case.meta_counts if is_meta and case.meta_counts is not None else case.counts
    assert {name: int(stats[name]) for name in counts} == counts
    reply = wire.ask(b"get %b\r\n" % KEY)
    if case.after is None:
        assert reply == b"END\r\n"
        return
    value, flags, ttl = case.after
    assert reply == b"VALUE %b %d %d\r\n%b\r\nEND\r\n" % (KEY, flags, len(value), value)
    left = int(wire.ask(b"mg %b t\r\n" % KEY).removeprefix(b"HD t"))
    assert left == -1 if not ttl else ttl - SLOWNESS_SECONDS < left <= ttl + 1


@plain_by_name
def test_text_commands_do_what_the_table_says(wire: Wire, case: CommandCase) -> None:
    check_over(wire, case, lambda command: in_text.read(wire.ask(in_text.written(command))))


@all_by_name
def test_meta_commands_do_what_the_table_says(wire: Wire, case: CommandCase) -> None:
    check_over(wire, case, lambda command: in_meta.read(wire.ask(in_meta.written(command)), command), is_meta=True)


@all_by_name
def test_binary_commands_do_what_the_table_says(server: RunningServer, wire: Wire, case: CommandCase) -> None:
    def carry_out(command: Command) -> Result:
        with BinaryWire(server) as binary:
            binary.send(in_binary.written(command).to_bytes() + MARK.to_bytes())
            (reply,) = binary.receive()
        return in_binary.read(reply, command)

    check_over(wire, case, carry_out)
