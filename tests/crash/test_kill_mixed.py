"""kill -9 under a load of every kind of change, for all policies: what is left is what some prefix of it comes to."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.lives import Lives
from tests.crash.rounds import rounds_of

pytestmark = pytest.mark.long

POLICIES = ["always", "everysec", "never"]
LONG_SECONDS = 2.0
"""Long enough for expiry and for a flush that waits."""


def play_all(lives: Lives, rounds: int, saw_enough: Callable[[], bool] = lambda: True) -> None:
    """Play short rounds, and one of each dozen long; up to ten times as many until enough was seen."""
    try:
        while lives.finished < rounds or (not saw_enough() and lives.finished < 10 * rounds):
            lives.play(LONG_SECONDS if lives.finished % 12 == 2 else lives.rng.uniform(0.05, 0.25))
    finally:
        print(
            f"{lives.finished} kills, {lives.commands} commands, {lives.flushes} flushes, {lives.compactions} "
            f"rewrites, {lives.evicted} evicted; lost {lives.lost}, of {lives.lost_seconds * 1000:.1f} ms at most"
        )
        lives.close()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fsync", POLICIES)
def test_kills_under_mixed_load_leave_a_prefix_of_what_was_sent(tmp_path: Path, seed: int, fsync: str) -> None:
    lives = Lives(tmp_path / "journal", fsync, seed)
    rounds = rounds_of(3)
    play_all(lives, rounds)
    assert lives.commands > 20 * rounds
    if fsync == "always":
        assert lives.lost == 0


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fsync", POLICIES)
def test_kills_while_keys_are_evicted_bring_back_last_values_or_none(tmp_path: Path, seed: int, fsync: str) -> None:
    lives = Lives(tmp_path / "journal", fsync, seed, ("--max-items", "16", "--shards", "1"), evicts=True)
    rounds = rounds_of(2)
    play_all(lives, rounds, lambda: lives.evicted > 0)  # none is missing where all was flushed just before each kill
    assert lives.commands > 20 * rounds
    assert lives.evicted
