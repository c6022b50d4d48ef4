"""The protocols, without sockets: they are given bytes, carry out commands and collect replies."""

from memcache_kv.protocol.context import Context
from memcache_kv.protocol.text.framing import TextProtocol

__all__ = ["Context", "TextProtocol"]
