"""Error texts and limits that several commands share. They are memcached's, as clients compare the texts."""

from memcache_kv.store.entry import KEY_LIMIT_BYTES as KEY_LIMIT_BYTES

LARGEST_LENGTH = (1 << 31) - 3
"""The largest length of a data block that a command line may give."""
MAX_VERBOSITY = 5

BAD_FORMAT = b"CLIENT_ERROR bad command line format"
BAD_EXPTIME = b"CLIENT_ERROR invalid exptime argument"
NON_NUMERIC = b"CLIENT_ERROR cannot increment or decrement non-numeric value"
TOO_LARGE = b"SERVER_ERROR object too large for cache"
OUT_OF_MEMORY = b"SERVER_ERROR out of memory storing object"
