"""A stop that is wanted while the journal is still being read."""

import io
from pathlib import Path

import pytest

from memcache_kv.config.settings import Settings
from memcache_kv.errors import StoppedEarly
from memcache_kv.journal import JournalDirectory
from memcache_kv.observe.log import Log
from memcache_kv.server.run import ServerRun
from tests.journal.journals import Run, names_in


def test_a_stop_during_recovery_ends_the_start_and_lets_go_of_everything(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.store(b"k")
    run.close()
    before = {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)}
    service = ServerRun(Settings(port=0, listen=("127.0.0.1",), journal=tmp_path), log=Log(0, io.StringIO()))
    service.stopping.set()
    with pytest.raises(StoppedEarly):
        service.start()
    JournalDirectory(tmp_path).close()  # nobody holds it
    assert {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)} == before
