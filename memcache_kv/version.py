"""The versions we report: our own, and that of the memcached whose behaviour we follow."""

VERSION = "0.1.0"
"""Our own version, as the package and `stats` report it."""

PROTOCOL_VERSION = "1.6.45"
"""The memcached whose behaviour is implemented; the answer to `version`, a bare N.N.N as clients demand."""
