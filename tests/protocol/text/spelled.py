"""The commands of the shared table as the classic text protocol writes them, and its replies."""

from memcache_kv.store import Outcome
from tests.protocol.command_cases import KEY, Command, Result

OUTCOMES = {
    b"STORED": Outcome.STORED,
    b"NOT_STORED": Outcome.NOT_STORED,
    b"EXISTS": Outcome.EXISTS,
    b"NOT_FOUND": Outcome.NOT_FOUND,
    b"CLIENT_ERROR cannot increment or decrement non-numeric value": Outcome.NON_NUMERIC,
}


def written(command: Command) -> bytes:
    """The request."""
    return b"%b %b %d\r\n" % (b"incr" if command.is_up else b"decr", KEY, command.amount)


def read(reply: bytes) -> Result:
    """What the reply says."""
    line = reply.removesuffix(b"\r\n")
    return Result(Outcome.STORED, int(line)) if line.isdigit() else Result(OUTCOMES[line])
