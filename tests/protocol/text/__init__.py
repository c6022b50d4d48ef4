"""Tests of memcache_kv/protocol/text."""
