"""Tests of memcache_kv/protocol/binary."""
