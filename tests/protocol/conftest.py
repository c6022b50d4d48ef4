"""For all tests of the protocols: a turn does not end by time unless a test says so, however slow the machine is."""

from collections.abc import Iterator

import pytest

from memcache_kv.protocol import session


@pytest.fixture(autouse=True, scope="package")
def turns_without_time_limit() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "TURN_SECONDS", 1e9)
        yield
