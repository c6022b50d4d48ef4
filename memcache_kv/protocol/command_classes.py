"""The class of every command of memcached's protocols, and which commands a connection checks before it runs them.

Most commands have one class. A few have a higher one in some forms: `stats reset`, or `mg` with a flag that changes the
item. `class_in_text` and `class_in_binary` know these forms.
"""

from __future__ import annotations

from memcache_kv.auth.access import CommandClass
from memcache_kv.protocol.binary.frames import Opcode

READ, WRITE, ADMIN = CommandClass

COMMAND_CLASSES: dict[bytes | int, CommandClass] = {
    b"get": READ,
    b"gets": READ,
    b"mg": READ,
    b"me": READ,
    b"mn": READ,
    b"stats": READ,
    b"version": READ,
    b"config": READ,
    b"quit": READ,
    b"gat": WRITE,
    b"gats": WRITE,
    b"set": WRITE,
    b"add": WRITE,
    b"replace": WRITE,
    b"append": WRITE,
    b"prepend": WRITE,
    b"cas": WRITE,
    b"delete": WRITE,
    b"incr": WRITE,
    b"decr": WRITE,
    b"touch": WRITE,
    b"ms": WRITE,
    b"md": WRITE,
    b"ma": WRITE,
    b"flush_all": ADMIN,
    b"verbosity": ADMIN,
    b"watch": ADMIN,
    b"cache_memlimit": ADMIN,
    b"lru_crawler": ADMIN,
    b"lru": ADMIN,
    b"slabs": ADMIN,
    b"shutdown": ADMIN,
    b"refresh_certs": ADMIN,
    b"journal": ADMIN,
    b"debugtime": ADMIN,
    Opcode.GET: READ,
    Opcode.GETQ: READ,
    Opcode.GETK: READ,
    Opcode.GETKQ: READ,
    Opcode.NOOP: READ,
    Opcode.VERSION: READ,
    Opcode.STAT: READ,
    Opcode.QUIT: READ,
    Opcode.QUITQ: READ,
    Opcode.SASL_LIST: READ,
    Opcode.SASL_AUTH: READ,
    Opcode.SASL_STEP: READ,
    Opcode.CONFIG_GET: READ,
    Opcode.SET: WRITE,
    Opcode.SETQ: WRITE,
    Opcode.ADD: WRITE,
    Opcode.ADDQ: WRITE,
    Opcode.REPLACE: WRITE,
    Opcode.REPLACEQ: WRITE,
    Opcode.APPEND: WRITE,
    Opcode.APPENDQ: WRITE,
    Opcode.PREPEND: WRITE,
    Opcode.PREPENDQ: WRITE,
    Opcode.DELETE: WRITE,
    Opcode.DELETEQ: WRITE,
    Opcode.INCREMENT: WRITE,
    Opcode.INCREMENTQ: WRITE,
    Opcode.DECREMENT: WRITE,
    Opcode.DECREMENTQ: WRITE,
    Opcode.TOUCH: WRITE,
    Opcode.GAT: WRITE,
    Opcode.GATQ: WRITE,
    Opcode.GATK: WRITE,
    Opcode.GATKQ: WRITE,
    Opcode.FLUSH: ADMIN,
    Opcode.FLUSHQ: ADMIN,
    Opcode.VERBOSITY: ADMIN,
    Opcode.CONFIG_SET: ADMIN,
    Opcode.CONFIG_DELETE: ADMIN,
}
"""The class of each text command, by its name, and of each binary command, by its opcode. Of a command with several
classes it is the lowest."""

HIGHER_FORMS: dict[bytes | int, CommandClass] = {
    b"mg": WRITE,
    b"stats": ADMIN,
    b"config": ADMIN,
    Opcode.STAT: ADMIN,
}
"""The highest class of the commands that have several."""
ADMIN_STATS = (b"reset", b"detail", b"cachedump", b"conns", b"sizes")
"""The reports of the class admin: they change something, list keys or clients, or look at all items."""
CHANGING_MG_FLAGS = frozenset(b"TNRE")
"""The flags with which mg changes or creates an item."""


def _commands_to_check(allowed: CommandClass, is_audited: bool) -> frozenset[bytes | int]:
    return frozenset(
        command
        for command, lowest in COMMAND_CLASSES.items()
        if (highest := HIGHER_FORMS.get(command, lowest)) > allowed or (is_audited and highest is ADMIN)
    )


TO_CHECK = {
    (allowed, is_audited): _commands_to_check(allowed, is_audited)
    for allowed in CommandClass
    for is_audited in (False, True)
}
"""The commands that a connection must check, by the highest class that it may use and whether there is an audit log."""


def class_in_text(words: list[bytes]) -> CommandClass:
    """Return the class of a text command whose words are split."""
    name = words[0]
    if name == b"stats" and len(words) > 1 and admin_report(words[1]):
        return ADMIN
    if name == b"config" and words[1:2] not in ([], [b"get"]):
        return ADMIN
    if name == b"mg" and any(word[0] in CHANGING_MG_FLAGS for word in words[2:]):
        return WRITE
    return COMMAND_CLASSES[name]


def admin_report(what: bytes) -> bytes:
    """Return the report of the class admin that `stats` with this word makes; nothing if it makes another one.

    As in memcached, the beginning of a report's name is enough, but for `sizes`.
    """
    return next((name for name in ADMIN_STATS if what == name or (name != b"sizes" and name.startswith(what))), b"")


def class_in_binary(opcode: int, key: bytes) -> CommandClass:
    """Return the class of a binary command. As in memcached, `stat` looks at the beginning of its key only."""
    return ADMIN if opcode == Opcode.STAT and key.startswith(ADMIN_STATS) else COMMAND_CLASSES[opcode]
