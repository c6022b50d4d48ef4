"""The tap: what lies between a test's client and its server, and sees and changes what passes."""

from memcache_kv.testing.wire.passage import Direction, Ending, Pace, Passage, Rule
from memcache_kv.testing.wire.tap import Tap

__all__ = ["Direction", "Ending", "Pace", "Passage", "Rule", "Tap"]
