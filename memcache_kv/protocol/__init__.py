"""The protocols, without sockets: fed bytes, they call the store and gather replies."""

from memcache_kv.protocol.context import Context
from memcache_kv.protocol.text.framing import TextProtocol

__all__ = ["Context", "TextProtocol"]
