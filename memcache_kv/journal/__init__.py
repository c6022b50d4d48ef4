"""The append-only journal of writes. Knows no protocol and no socket.

Its format is described in docs/reference/journal_format.md.
"""

from memcache_kv.config.settings import Fsync
from memcache_kv.journal.compaction import Compactor
from memcache_kv.journal.directory import JournalDirectory
from memcache_kv.journal.manifest import Manifest
from memcache_kv.journal.record import Room
from memcache_kv.journal.recovery import Recovered, recover
from memcache_kv.journal.writer import Journal

__all__ = ["Compactor", "Fsync", "Journal", "JournalDirectory", "Manifest", "Recovered", "Room", "recover"]
