"""Fetch and read traces that were recorded in real systems; none of them is part of this repository.

The files are kept in the cache directory ($XDG_CACHE_HOME, or ~/.cache). One that was put there by hand is used as
well, if it is the same file. OLTP needs the package zstandard.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import io
import itertools
import lzma
import os
import sys
import urllib.request
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.progress import Progress, track

from clients.local_server import ServerStartError

EXAMPLES = """\
examples:
  python -m benchmarks.recorded_traces                fetch all of them, 12 MB
  python -m benchmarks.recorded_traces web07 --print  print the keys of one, a line each"""

CAFFEINE = (
    "https://raw.githubusercontent.com/ben-manes/caffeine/ccef95542a9181182a60f5c6c33d2a0642c73574/simulator"
    "/src/main/resources/com/github/benmanes/caffeine/cache/simulator/parser/"
)
MOKA = "https://raw.githubusercontent.com/moka-rs/cache-trace/ef0a9de8cf0202a1f2fee186a0af497774b0f0a9/arc/"
LIBCACHESIM = "https://raw.githubusercontent.com/1a1a11a/libCacheSim/aa0fc40914b2b786f4b9f4dafb099f8f332b216a/data/"
FETCH_TIMEOUT_SECONDS = 60
WORDS_AT_ONCE = 1 << 14
INTERRUPTED = 130
"""The exit status after Ctrl-C."""


class TraceError(ServerStartError):
    """A trace is not there, is not the file that it should be, or cannot be unpacked here."""


def read_words(packed: IO[bytes], typecode: str) -> Iterator[int]:
    """Read keys that are big-endian words: `I` for 4 bytes, `Q` for 8. Unpacks xz."""
    with lzma.open(packed) as words:
        while data := words.read(WORDS_AT_ONCE * array(typecode).itemsize):
            numbers = array(typecode, data)
            if sys.byteorder == "little":
                numbers.byteswap()
            yield from numbers


def read_ranges(lines: IO[bytes]) -> Iterator[int]:
    """Read the ARC format: each line has the first key of a range and the number of its keys."""
    for line in lines:
        first, count = map(int, line.split(None, 2)[:2])
        yield from range(first, first + count)


def _read_packed_ranges(packed: IO[bytes]) -> Iterator[int]:
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError as error:
        raise TraceError("the package zstandard is not installed; pip install -e '.[traces]'") from error
    with zstandard.ZstdDecompressor().stream_reader(packed) as unpacked, io.BufferedReader(unpacked) as lines:
        yield from read_ranges(lines)


def read_column(rows: IO[bytes], name: str) -> Iterator[int]:
    """Read keys from a column of comma-separated values; the first line has the names of the columns."""
    with io.TextIOWrapper(rows, "ascii", newline="") as text:
        yield from (int(row[name]) for row in csv.DictReader(text))


@dataclass(frozen=True)
class Recorded:
    """Say what a trace is, where its file comes from, and how its keys are read."""

    about: str
    url: str
    sha256: str
    read: Callable[[IO[bytes]], Iterator[int]]

    @property
    def path(self) -> Path:
        """Give the place of the file in the cache directory."""
        return cache_directory() / self.url.rpartition("/")[2]

    def keys(self, limit: int | None = None) -> list[int]:
        """Read the keys that were asked for, in their order. Raises TraceError."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError as error:
            raise TraceError("it is not there; python -m benchmarks.recorded_traces fetches it") from error
        except OSError as error:
            raise TraceError(f"cannot read it: {error}") from error
        self.check(data)
        return list(itertools.islice(self.read(io.BytesIO(data)), limit))

    def check(self, data: bytes) -> None:
        """Raise TraceError unless this is what the file should hold."""
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise TraceError(f"{self.path.name} is not the file that it was: its SHA-256 differs")

    def fetch(self) -> None:
        """Fetch the file into the cache directory, unless it is there. Raises TraceError."""
        if self.path.exists():
            return
        try:
            with urllib.request.urlopen(self.url, timeout=FETCH_TIMEOUT_SECONDS) as answer:
                data = answer.read()
            self.check(data)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_suffix(".partial")
            partial.write_bytes(data)
            partial.replace(self.path)
        except OSError as error:
            raise TraceError(f"cannot fetch {self.url}: {error}") from error


def cache_directory() -> Path:
    """Give the directory that keeps the files."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "memcache_kv" / "traces"


def _words(typecode: str) -> Callable[[IO[bytes]], Iterator[int]]:
    return lambda packed: read_words(packed, typecode)


RECORDED: dict[str, Recorded] = {
    "OLTP": Recorded(
        "blocks of a database under transactions, an hour; from the paper on ARC, which users must cite",
        MOKA + "OLTP.lis.zst",
        "2a81096104b6de28aae54558b764bb32fe2ac3beb8a7dcdee1259af8798d3531",
        _read_packed_ranges,
    ),
    "web07": Recorded(
        "pages of a product information site, a day in July; CC BY 4.0",
        CAFFEINE + "cache2k/web07.trace.xz",
        "e50bb13aa66d1cc71877c8ea92c577be0d0ab5b2b4f7a16c87046af1097bd46a",
        _words("I"),
    ),
    "web12": Recorded(
        "pages of the same site, a day in December; CC BY 4.0",
        CAFFEINE + "cache2k/web12.trace.xz",
        "a76c78e129a982fe17055d0a291ebf385e7a0aa7964bd091d006bcde862bcdad",
        _words("I"),
    ),
    "orm-busy": Recorded(
        "objects that an object-relational mapper looked up in a busy hour; CC BY 4.0",
        CAFFEINE + "cache2k/orm-busy.trace.xz",
        "0b1d6593387d713c98cc20a5b8c4128eaa983f94dcd70069b032dc1af9c2ceb3",
        _words("I"),
    ),
    "cloudPhysicsIO": Recorded(
        "blocks of a virtual machine's disk",
        LIBCACHESIM + "cloudPhysicsIO.csv",
        "987ff2213050e47d24e8ba6e010d4b3127e51aafef6a76a8a6d43d13b9156fa1",
        lambda rows: read_column(rows, "lbn"),
    ),
    "scarab": Recorded(
        "product recommendations that web shops looked up",
        CAFFEINE + "scarab/scarab-recs.trace.xz",
        "abf86a7eef62e1e5ed93afe318168bb72a575c6d552e9904426711039c05ede3",
        _words("Q"),
    ),
    "w106": Recorded(
        "blocks of another virtual machine's disk",
        CAFFEINE + "cloud_physics/w106.trace.xz",
        "679615d555d3f0c26771b0afd859caeee54e236908cd60105d08b547abadba21",
        _words("I"),
    ),
}


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recorded_traces",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="TRACE", help=f"some of {', '.join(RECORDED)} (default: all)")
    parser.add_argument(
        "--print", action="store_true", help="print the keys, one a line, as benchmarks.trace reads them"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in RECORDED]
    if unknown:
        parser.error(f"no trace {', '.join(unknown)}")
    options.names = options.names or list(RECORDED)
    return options


def fetch_all(names: Sequence[str], console: Console) -> bool:
    """Fetch these traces. Returns whether all of them are there now."""
    complete = True
    with Progress(console=console) as progress:
        for name in progress.track(names, description="fetching"):
            try:
                RECORDED[name].fetch()
                progress.console.print(f"{name}: {RECORDED[name].path}", markup=False, soft_wrap=True)
            except TraceError as error:
                progress.console.print(f"{name}: {error}", markup=False, soft_wrap=True)
                complete = False
    return complete


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the traces, and print their keys with --print; return the exit status."""
    options = parse_arguments(arguments)
    console = Console(stderr=True)
    try:
        if not fetch_all(options.names, console):
            return 1
        for name in options.names if options.print else ():
            sys.stdout.writelines(f"{key}\n" for key in track(RECORDED[name].keys(), name, console=console))
    except TraceError as error:
        console.print(str(error), markup=False)
        return 1
    except BrokenPipeError:  # who reads the keys has enough of them
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
    except KeyboardInterrupt:
        console.print("interrupted")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
