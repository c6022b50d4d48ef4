"""The version of this package, and the version of memcached that it is compatible with."""

VERSION = "0.1.0"
"""The version of this package."""

PROTOCOL_VERSION = "1.6.45"
"""The version of memcached whose behaviour is implemented. The command `version` reports it, as clients parse it."""
