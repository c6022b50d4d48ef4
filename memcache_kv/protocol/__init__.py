"""The protocols, without sockets: fed bytes, they call the store and gather replies."""

from memcache_kv.protocol.context import ConnectionFacts, ConnectionTotals, Context
from memcache_kv.protocol.text.framing import TextProtocol

__all__ = ["ConnectionFacts", "ConnectionTotals", "Context", "TextProtocol"]
