"""The commands of the shared table as the meta protocol writes them, and its replies."""

from memcache_kv.store import Outcome
from tests.protocol.command_cases import KEY, Command, Result

OUTCOMES = {
    b"HD": Outcome.STORED,
    b"NS": Outcome.NOT_STORED,
    b"EX": Outcome.EXISTS,
    b"NF": Outcome.NOT_FOUND,
    b"CLIENT_ERROR cannot increment or decrement non-numeric value": Outcome.NON_NUMERIC,
}


def written(command: Command) -> bytes:
    """The request."""
    flags = [b"v", b"D%d" % command.amount, b"MI" if command.is_up else b"MD"]
    flags += [b"C%d" % command.cas] if command.cas else []
    flags += [] if command.initial is None else [b"N0", b"J%d" % command.initial]
    return b"ma %b %b\r\n" % (KEY, b" ".join(flags))


def read(reply: bytes, command: Command) -> Result:
    """What the reply says."""
    line, _, block = reply.partition(b"\r\n")
    if line.startswith(b"VA"):
        return Result(Outcome.STORED, int(block))
    return Result(OUTCOMES[line])
