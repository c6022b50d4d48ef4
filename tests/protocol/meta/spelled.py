"""The commands of the shared table as the meta protocol writes them, and its replies."""

from memcache_kv.store import Mode, Outcome
from tests.protocol.command_cases import KEY, Command, Count, Delete, Result, Store, Touch

MODES = {
    Mode.SET: b"S", Mode.ADD: b"E", Mode.REPLACE: b"R", Mode.APPEND: b"A", Mode.PREPEND: b"P", Mode.CAS: b"S",
}  # fmt: skip
OUTCOMES = {
    b"HD": Outcome.STORED,
    b"NS": Outcome.NOT_STORED,
    b"EX": Outcome.EXISTS,
    b"NF": Outcome.NOT_FOUND,
    b"EN": Outcome.NOT_FOUND,
    b"CLIENT_ERROR cannot increment or decrement non-numeric value": Outcome.NON_NUMERIC,
}


def written(command: Command) -> bytes:
    """The request."""
    match command:
        case Count(amount, is_up, cas, initial):
            flags = b" v D%d %b" % (amount, b"MI" if is_up else b"MD") + condition(cas)
            flags += b"" if initial is None else b" N0 J%d" % initial
            return b"ma %b%b\r\n" % (KEY, flags)
        case Delete(cas):
            return b"md %b%b\r\n" % (KEY, condition(cas))
        case Touch(ttl):
            return b"mg %b T%d\r\n" % (KEY, ttl)
        case Store(mode, value, flags_, ttl, cas):
            flags = b" M%b F%d T%d" % (MODES[mode], flags_, ttl) + condition(cas)
            return b"ms %b %d%b\r\n%b\r\n" % (KEY, len(value), flags, value)


def condition(cas: int) -> bytes:
    """The flag for a CAS id that the item must have."""
    return b" C%d" % cas if cas else b""


def read(reply: bytes, command: Command) -> Result:
    """What the reply says."""
    line, _, block = reply.partition(b"\r\n")
    if line.startswith(b"VA"):
        return Result(Outcome.STORED, int(block))
    return Result(Outcome.DELETED if line == b"HD" and isinstance(command, Delete) else OUTCOMES[line])
