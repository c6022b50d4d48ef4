"""The commands of the shared table as the classic text protocol writes them, and its replies."""

from memcache_kv.store import Mode, Outcome
from tests.protocol.command_cases import KEY, Command, Count, Delete, Result, Store, Touch

OUTCOMES = {
    b"STORED": Outcome.STORED,
    b"NOT_STORED": Outcome.NOT_STORED,
    b"EXISTS": Outcome.EXISTS,
    b"NOT_FOUND": Outcome.NOT_FOUND,
    b"DELETED": Outcome.DELETED,
    b"TOUCHED": Outcome.STORED,
    b"CLIENT_ERROR cannot increment or decrement non-numeric value": Outcome.NON_NUMERIC,
}


def written(command: Command) -> bytes:
    """The request."""
    match command:
        case Count(amount, is_up):
            return b"%b %b %d\r\n" % (b"incr" if is_up else b"decr", KEY, amount)
        case Delete():
            return b"delete %b\r\n" % KEY
        case Touch(ttl):
            return b"touch %b %d\r\n" % (KEY, ttl)
        case Store(mode, value, flags, ttl, cas):
            words = b"%b %b %d %d %d" % (mode.value.encode(), KEY, flags, ttl, len(value))
            return b"%b\r\n%b\r\n" % (words + b" %d" % cas if mode is Mode.CAS else words, value)


def read(reply: bytes) -> Result:
    """What the reply says."""
    line = reply.removesuffix(b"\r\n")
    return Result(Outcome.STORED, int(line)) if line.isdigit() else Result(OUTCOMES[line])
