"""Faults on demand, for tests of what a program does when its memcached fails."""

from memcache_kv.testing.faults.base import Fault
from memcache_kv.testing.faults.fault import KINDS, fault
from memcache_kv.testing.faults.selection import KeyPattern

__all__ = ["KINDS", "Fault", "KeyPattern", "fault"]
