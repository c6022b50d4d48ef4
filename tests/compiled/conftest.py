"""For the tests of the compiled modules: a turn does not end by time, as in the tests of the protocols."""

import pytest

from memcache_kv.stats import latency
from tests.protocol.conftest import turns_without_time_limit as turns_without_time_limit


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """No turn of a worker is measured but its first, which has no request: compiled code leaves these to the worker."""
    monkeypatch.setattr(latency, "TURNS_PER_SAMPLE", 10**9)
