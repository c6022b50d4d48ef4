"""Measurements of the server, beside memcached on the same machine."""
