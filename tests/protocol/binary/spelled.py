"""The commands of the shared table as the binary protocol writes them, and its replies."""

from memcache_kv.store import Mode, Outcome
from tests.protocol.binary.binary_cases import (
    EXISTS,
    NON_NUMERIC,
    NOT_FOUND,
    NOT_STORED,
    O,
    counting,
    joining,
    storing,
    touching,
)
from tests.protocol.binary.binary_packets import Packet, Reply
from tests.protocol.command_cases import KEY, Command, Count, Delete, Result, Store, Touch

OPCODES = {
    Mode.SET: O.SET, Mode.ADD: O.ADD, Mode.REPLACE: O.REPLACE, Mode.APPEND: O.APPEND, Mode.PREPEND: O.PREPEND,
    Mode.CAS: O.SET,
}  # fmt: skip
OUTCOMES = {
    0: Outcome.STORED,
    NOT_STORED: Outcome.NOT_STORED,
    EXISTS: Outcome.EXISTS,
    NOT_FOUND: Outcome.NOT_FOUND,
    NON_NUMERIC: Outcome.NON_NUMERIC,
}
MAKES_NONE = 0xFFFFFFFF


def written(command: Command) -> Packet:
    """The request."""
    match command:
        case Count(amount, is_up, cas, initial):
            opcode, makes = O.INCREMENT if is_up else O.DECREMENT, initial is not None
            return counting(opcode, KEY, amount, initial or 0, 0 if makes else MAKES_NONE, cas)
        case Delete(cas):
            return Packet(O.DELETE, KEY, cas=cas)
        case Touch(ttl):
            return touching(O.TOUCH, KEY, ttl)
        case Store(mode, value, flags, ttl, cas):
            if mode.joins:
                return joining(OPCODES[mode], KEY, value, cas)
            return storing(OPCODES[mode], KEY, value, flags, ttl, cas)


def read(reply: Reply, command: Command) -> Result:
    """What the reply says."""
    match command:
        case Count() if reply.status == 0:
            return Result(Outcome.STORED, int.from_bytes(reply.value, "big"))
        case Delete() if reply.status == 0:
            return Result(Outcome.DELETED)
        case Store(mode) if (mode, reply.status) in ((Mode.ADD, EXISTS), (Mode.REPLACE, NOT_FOUND)):
            return Result(Outcome.NOT_STORED)
    return Result(OUTCOMES[reply.status])
