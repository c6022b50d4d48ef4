"""Tests which speak to running servers: ours and memcached, with the same expectations."""
