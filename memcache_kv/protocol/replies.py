"""Error texts that several commands share, as memcached has them: clients compare them."""

BAD_FORMAT = b"CLIENT_ERROR bad command line format"
BAD_EXPTIME = b"CLIENT_ERROR invalid exptime argument"
