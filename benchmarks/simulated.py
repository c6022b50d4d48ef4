"""Hit ratios of well-known policies on a trace, from libCacheSim where the package libcachesim is installed."""

from __future__ import annotations

import contextlib
import importlib
import struct
import tempfile
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

OPTIMUM = "optimum"
POLICIES = {"LRU": "LRU", "S3-FIFO": "S3FIFO", "W-TinyLFU": "WTinyLFU", OPTIMUM: "Belady"}
"""The policies, and their classes in libcachesim. The optimum knows the future (Belady)."""
NO_SIMULATOR = "policies skipped: the package libcachesim is not installed; pip install -e '.[traces]'"
NEVER = 1 << 62
"""The next request of a key that is not asked for again. It is far beyond all others."""
RECORD = struct.Struct("<IQIq")
"""Of libCacheSim's format oracleGeneral: time, key, size, and the number of the next request of the same key."""


def simulator() -> ModuleType | None:
    """Load libcachesim; None if it is not installed."""
    try:
        return importlib.import_module("libcachesim")
    except ImportError:
        return None


class Simulated:
    """Run policies on one trace, written in the simulator's format."""

    def __init__(self, library: Any, path: str) -> None:
        self._library = library
        self._path = path

    def hit_ratios(self, items: int) -> dict[str, float]:
        """Return the hit ratio of each policy, by its name, with room for so many items."""
        return {name: self._run(policy, items) for name, policy in POLICIES.items()}

    def _run(self, policy: str, items: int) -> float:
        reader = self._library.TraceReader(self._path, self._library.TraceType.ORACLE_GENERAL_TRACE)
        misses, _ = getattr(self._library, policy)(cache_size=items).process_trace(reader)
        return 1 - float(misses)


@contextlib.contextmanager
def simulated(keys: Sequence[int]) -> Iterator[Simulated | None]:
    """Prepare simulations of this trace until the end of the block; None without the simulator."""
    library = simulator()
    if library is None:
        yield None
        return
    with tempfile.NamedTemporaryFile(prefix="benchmark.", suffix=".oracleGeneral") as file:
        file.writelines(
            RECORD.pack(number, key, 1, later)
            for number, (key, later) in enumerate(zip(_numbered(keys), next_requests(keys), strict=True))
        )
        file.flush()
        yield Simulated(library, file.name)


def next_requests(keys: Sequence[int]) -> list[int]:
    """Return for each request the number of the next one of the same key, or `NEVER`."""
    found, later = [NEVER] * len(keys), dict.fromkeys(keys, NEVER)
    for number in range(len(keys) - 1, -1, -1):
        found[number], later[keys[number]] = later[keys[number]], number
    return found


def _numbered(keys: Sequence[int]) -> list[int]:
    """Return the number of each key in order of appearance. Keys that are negative or too long fit a record then."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [numbers[key] for key in keys]
