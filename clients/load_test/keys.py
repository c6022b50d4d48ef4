"""Which keys the load uses, and how often each of them."""

from __future__ import annotations

import gzip
import itertools
import random
import string
from collections.abc import Iterator, Sequence
from pathlib import Path

from clients.load_test.wires.wire import Wire
from clients.rows import keys_from

DIGITS = (string.digits + string.ascii_lowercase).encode()
ZIPF_EXPONENT = 0.99
"""The exponent that most benchmarks of caches use."""
DRAWN_AT_ONCE = 64
SEED = 1


def room_for(size: int) -> int:
    """Return how many keys of this many bytes there are."""
    return int(len(DIGITS) ** min(size, 20))


def numbered_keys(count: int, size: int) -> list[bytes]:
    """Return that many keys of this many bytes."""
    return [_numeral(number, size) for number in range(count)]


def _numeral(number: int, size: int) -> bytes:
    digits = bytearray(DIGITS[:1] * size)
    for place in range(size - 1, -1, -1):
        number, digit = divmod(number, len(DIGITS))
        digits[place] = DIGITS[digit]
        if not number:
            break
    return bytes(digits)


def row_keys(count: int) -> list[bytes]:
    """Return the UUID keys of that many generated rows."""
    return [key.encode() for key in keys_from(SEED, count)]


def keys_in(path: Path) -> list[bytes]:
    """Return the keys of a data file with lines `key value`, which may be compressed (.gz)."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return [words[0] for line in file if (words := line.split(None, 1))]


def weights_of(distribution: str, count: int) -> list[float] | None:
    """Return the cumulative weights of the keys by their rank; None if all keys are as likely."""
    if distribution == "uniform":
        return None
    return list(itertools.accumulate((rank + 1) ** -ZIPF_EXPONENT for rank in range(count)))


def random_value(size: int) -> bytes:
    """Return a value of letters and digits."""
    return bytes(random.Random(SEED).choices(DIGITS, k=size))


class Mix:
    """The requests of a load: how many of them store, and which keys they use.

    ratio: the share of requests that store the value. weights: see `weights_of`.
    """

    def __init__(
        self, wire: Wire, keys: Sequence[bytes], weights: Sequence[float] | None, value: bytes, ratio: float
    ) -> None:
        """Describe the requests."""
        self._wire = wire
        self._keys = keys
        self._weights = weights
        self._value = value
        self._ratio = ratio

    def requests(self, seed: int) -> Iterator[tuple[bytes, bool]]:
        """Yield requests without end, and whether each is a get."""
        rng = random.Random(seed)
        choices, draw = rng.choices, rng.random
        get, put, value, ratio = self._wire.get, self._wire.put, self._value, self._ratio
        while True:
            for key in choices(self._keys, cum_weights=self._weights, k=DRAWN_AT_ONCE):
                if draw() < ratio:
                    yield put(key, value), False
                else:
                    yield get(key), True
