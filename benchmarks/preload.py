"""How long a server loads a data file of UUID keys and values of 35 bytes, and how much memory it has then.

Run by itself: python -m benchmarks.preload [--rows 1000000]
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.fill import uuid_key
from clients.local_server import LocalServer, default_command

VALUE_BYTES = 35
MEMORY_MEGABYTES = 1024
MEGABYTE = 1_000_000
ROWS_AT_ONCE = 10_000


class Start(NamedTuple):
    """One start: the seconds until the first answer, the processor's seconds, and the most resident bytes."""

    what: str
    seconds: float
    cpu_seconds: float
    resident_bytes: int

    def line(self) -> str:
        """Return the figures for a person."""
        memory = f"{self.resident_bytes / MEGABYTE:.0f} MB"
        return f"{self.what:<12} {self.seconds:6.2f} s {self.cpu_seconds:6.2f} s of CPU {memory:>8}"


def rows(count: int) -> Iterator[bytes]:
    """Yield the lines, some thousand at a time."""
    for first in range(0, count, ROWS_AT_ONCE):
        numbers = range(first, min(count, first + ROWS_AT_ONCE))
        yield b"".join(b"%b %0*d\n" % (uuid_key(number), VALUE_BYTES, number) for number in numbers)


def measure(folder: Path, count: int) -> Iterator[Start]:
    """Write files into a folder, and start a server with each."""
    plain, packed, journal = folder / "rows", folder / "rows.gz", str(folder / "journal")
    with plain.open("wb") as file, gzip.open(packed, "wb", compresslevel=1) as compressed:
        for lines in rows(count):
            file.write(lines)
            compressed.write(lines)
    yield _start("empty", [])
    yield _start("plain", ["--preload", str(plain)])
    yield _start("gzip", ["--preload", str(packed)])
    yield _start("new journal", ["--preload", str(plain), "--journal", journal])
    yield _start("its restart", ["--journal", journal])


def _start(what: str, flags: list[str]) -> Start:
    with LocalServer(default_command(), ["-m", str(MEMORY_MEGABYTES), *flags]) as server:
        return Start(what, server.ready_seconds, server.cpu_seconds(), server.peak_resident_bytes())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a line for each start, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preload", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="default: 1000000")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="preload.") as folder:
        for start in measure(Path(folder), options.rows):
            print(start.line(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
