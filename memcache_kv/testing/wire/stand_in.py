"""What the server is asked in place of a request that a rule answers, so that all replies keep their order."""

from __future__ import annotations

from memcache_kv.protocol.binary.frames import HEAD, REQUEST_MAGIC, Opcode

TEXT_STAND_IN = b"version\r\n"
BINARY_STAND_IN = HEAD.pack(REQUEST_MAGIC << 8 | Opcode.NOOP, 0, 0, 0, 0, 0)


def stand_in_for(protocol: str) -> bytes:
    """Return a request of a protocol, text or binary, that every server answers and that changes nothing."""
    return BINARY_STAND_IN if protocol == "binary" else TEXT_STAND_IN
