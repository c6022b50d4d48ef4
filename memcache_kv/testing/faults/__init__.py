"""Faults on demand, for tests of what a program does when its memcached fails."""

from memcache_kv.testing.faults.base import Fault
from memcache_kv.testing.faults.fault import FAULTS, fault
from memcache_kv.testing.faults.selection import KeyPattern

__all__ = ["FAULTS", "Fault", "KeyPattern", "fault"]
