"""The same streams of requests to memcached and to us."""
