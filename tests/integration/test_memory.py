"""What `-m` promises, measured on the process: its resident size beyond that of an idle server."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

import pytest

from tests.integration.conftest import MakeServer
from tests.integration.wire import Wire

MEGABYTE = 1 << 20
LIMIT_MEGABYTES = 128
ROUNDS = 2.5
BLOCK = random.Random(1).randbytes(MEGABYTE)

MIXES: dict[str, Callable[[random.Random], int]] = {
    "small": lambda rnd: rnd.randrange(1, 500),
    "around a kilobyte": lambda rnd: rnd.randrange(500, 3000),
    "five kilobytes": lambda rnd: 5000,
    "ten kilobytes": lambda rnd: 10_240,
    "from a byte to most of a megabyte": lambda rnd: int(10 ** rnd.uniform(0, 5.9)),
    "tiny or huge": lambda rnd: rnd.choice((50, 50, 50, 50, 400_000)),
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")
@pytest.mark.parametrize("mix", MIXES)
def test_the_process_takes_what_the_limit_says(ours: MakeServer, mix: str) -> None:
    server = ours("-m", str(LIMIT_MEGABYTES))
    rnd = random.Random(7)
    with Wire(server) as wire:
        wire.expect(b"get none\r\n", b"END\r\n")
        idle, sent, largest = server.resident_bytes(), 0, 0
        while sent < ROUNDS * LIMIT_MEGABYTES * MEGABYTE:
            batch = b"".join(_sets(rnd, MIXES[mix]))
            sent += len(batch)
            wire.expect(batch + b"version\r\n", b"VERSION 1.6.45\r\n")
            largest = max(largest, server.resident_bytes() - idle)
        final = server.resident_bytes() - idle
        assert int(wire.stats()["evictions"]) > 0
    assert largest < 1.2 * LIMIT_MEGABYTES * MEGABYTE
    assert final > 0.8 * LIMIT_MEGABYTES * MEGABYTE


def _sets(rnd: random.Random, size: Callable[[random.Random], int]) -> list[bytes]:
    """About a megabyte of silent sets."""
    lines, left = [], MEGABYTE
    while left > 0:
        length = size(rnd)
        lines.append(b"set key:%d 0 0 %d noreply\r\n%b\r\n" % (rnd.randrange(10**9), length, BLOCK[:length]))
        left -= length + 60
    return lines
