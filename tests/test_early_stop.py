"""A stop that is wanted while the journal is still being read."""

import io
from pathlib import Path

import pytest

from memcache_kv.errors import StoppedEarly
from memcache_kv.journal import Fsync, Journal, JournalDirectory
from memcache_kv.log import Log
from memcache_kv.service import Service
from memcache_kv.settings import Settings


def test_a_stop_during_recovery_ends_the_start_and_lets_go_of_everything(tmp_path: Path) -> None:
    directory = JournalDirectory(tmp_path)
    journal = Journal(directory.file, Fsync.NEVER)
    journal.stored(b"k", 0, 0, 0, b"v")
    journal.close()
    directory.close()
    before = directory.file.read_bytes()
    service = Service(Settings(port=0, listen=("127.0.0.1",), journal=tmp_path), log=Log(0, io.StringIO()))
    service.stopping.set()
    with pytest.raises(StoppedEarly):
        service.start()
    JournalDirectory(tmp_path).close()  # nobody holds it
    assert directory.file.read_bytes() == before
