"""Which requests change more than items."""

import pytest

from memcache_kv.testing.changes import lasts
from memcache_kv.traffic.conversation import Conversation


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("verbosity 2", True),
        ("cache_memlimit 100", True),
        ("lru_crawler disable", True),
        ("lru_crawler sleep 100", True),
        ("lru_crawler metadump all", False),
        ("lru mode flat", True),
        ("slabs automove 0", True),
        ("shutdown", True),
        ("stats detail on", True),
        ("stats d on", True),
        ("stats", False),
        ("stats items", False),
        ("get verbosity", False),
        ("flush_all 10", False),
    ],
)
def test_administrative_commands_last(line: str, expected: bool) -> None:
    [request] = Conversation().asked(line.encode() + b"\r\n")
    assert lasts(request) is expected
