"""What the tests of this directory share."""

import os
import random

import pytest


@pytest.fixture
def seed() -> int:
    """A new one each time, printed when a test fails; CRASH_SEED repeats one."""
    seed = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(10**9))
    print(f"CRASH_SEED={seed}")
    return seed
