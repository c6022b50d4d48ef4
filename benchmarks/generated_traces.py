"""Traces that are made, not recorded: what they are is known, and they can be made again."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

from benchmarks.trace import Request

VALUE_BYTES = 200
SHIFTS = 10
"""How often the hot set of `shifting` moves."""
SCAN_EVERY, SCAN_LENGTH = 20_000, 5_000
Trace = Callable[[int, int], Iterator[Request]]
"""Makes a trace: (requests, keys)."""


def zipf(requests: int, keys: int, exponent: float) -> Iterator[Request]:
    """Ask for key number n with a probability proportional to n ** -exponent."""
    weights = itertools.accumulate(n**-exponent for n in range(1, keys + 1))
    ranks = random.Random(7).choices(range(keys), cum_weights=list(weights), k=requests)
    return ((b"z%07d" % rank, VALUE_BYTES) for rank in ranks)


def with_scans(trace: Iterator[Request]) -> Iterator[Request]:
    """Break in every now and then with keys that come once, and never again."""
    for number, request in enumerate(trace, 1):
        yield request
        if number % SCAN_EVERY == 0:
            yield from ((b"s%07d" % key, VALUE_BYTES) for key in range(number, number + SCAN_LENGTH))


def shifting(requests: int, keys: int) -> Iterator[Request]:
    """Turn to other hot keys ten times: each time, a fifth of all keys change their places with others."""
    part = -(-requests // SHIFTS)
    for number, (key, size) in enumerate(zipf(requests, keys, 1.0)):
        yield b"z%07d" % ((int(key[1:]) + number // part * keys // 5) % keys), size


def looping(requests: int, keys: int) -> Iterator[Request]:
    """Go through a fifth of the keys, again and again."""
    length = keys // 5
    return ((b"l%07d" % (number % length), VALUE_BYTES) for number in range(requests))


def _zipf(exponent: float) -> Trace:
    return lambda requests, keys: zipf(requests, keys, exponent)


def _scanned(exponent: float) -> Trace:
    return lambda requests, keys: with_scans(zipf(requests, keys, exponent))


TRACES: dict[str, Trace] = {
    "zipf 0.9": _zipf(0.9),
    "zipf 1.0": _zipf(1.0),
    "zipf 1.1": _zipf(1.1),
    "zipf 0.9, scans": _scanned(0.9),
    "zipf 1.0, scans": _scanned(1.0),
    "zipf 1.1, scans": _scanned(1.1),
    "shifting": shifting,
    "looping": looping,
}
