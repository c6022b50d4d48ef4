"""kill -9 under any policy: no write that was acknowledged is missing after the restart."""

import contextlib
from pathlib import Path

import pytest

from tests.crash.acknowledged import LOADS, BusyDisk, Kills
from tests.crash.rounds import rounds_of

FEW_KILLS = 1
KILLS = rounds_of(4)


def kill(directory: Path, fsync: str, load: str, seed: int, count: int) -> None:
    kills = Kills(directory, fsync, LOADS[load], seed)
    busy = BusyDisk(directory / "busy") if LOADS[load].has_slow_syncs else contextlib.nullcontext()
    with contextlib.closing(kills), busy:
        for _ in range(count):
            kills.play()
        print(f"{fsync}, {load}: {count} kills, {kills.acknowledged} acknowledged writes, {kills.lost} lost")
    assert kills.lost == 0
    assert kills.acknowledged >= count


@pytest.mark.parametrize("fsync", ["everysec", "never"])
@pytest.mark.parametrize("load", LOADS)
def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path, fsync: str, load: str, seed: int) -> None:
    kill(tmp_path, fsync, load, seed, FEW_KILLS)


@pytest.mark.long
@pytest.mark.timeout(3600)  # KILL_ROUNDS=100 takes an hour on a busy machine
@pytest.mark.parametrize("fsync", ["always", "everysec", "never"])
@pytest.mark.parametrize("load", LOADS)
def test_many_kills_lose_nothing_that_was_acknowledged(tmp_path: Path, fsync: str, load: str, seed: int) -> None:
    kill(tmp_path, fsync, load, seed, KILLS)
