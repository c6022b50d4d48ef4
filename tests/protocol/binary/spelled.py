"""The commands of the shared table as the binary protocol writes them, and its replies."""

from memcache_kv.protocol.binary.frames import Opcode
from memcache_kv.store import Outcome
from tests.protocol.binary.binary_cases import EXISTS, NON_NUMERIC, NOT_FOUND, NOT_STORED, counting
from tests.protocol.binary.binary_packets import Packet, Reply
from tests.protocol.command_cases import KEY, Command, Result

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
    opcode = Opcode.INCREMENT if command.is_up else Opcode.DECREMENT
    if command.initial is None:
        return counting(opcode, KEY, command.amount, 0, MAKES_NONE, command.cas)
    return counting(opcode, KEY, command.amount, command.initial, 0, command.cas)


def read(reply: Reply, command: Command) -> Result:
    """What the reply says."""
    outcome = OUTCOMES[reply.status]
    return Result(outcome, int.from_bytes(reply.value, "big") if outcome is Outcome.STORED else None)
