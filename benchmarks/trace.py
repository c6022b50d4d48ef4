"""Replay a trace of keys against any memcached-compatible server as a cache would see it: get, and on a miss set.

A line of FILE is a key, or `time,key,size` (a heading is left out); *.gz is unpacked. Keys that no server would take
are replaced by their hash. The hit ratio goes to the standard output, as JSON with --json.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import itertools
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clients.address import Address, cannot_connect, parse_address
from clients.local_server import ServerStartError

TIMEOUT_SECONDS = 30
LARGEST_VALUE = 1_000_000
"""Some traces have objects that no server takes with its default settings: they are stored shorter."""
UNFIT = re.compile(rb"[\x00-\x20\x7f]")
EXAMPLES = """\
examples:
  python -m benchmarks.trace keys.txt --server 127.0.0.1:11211
  python -m benchmarks.trace cluster.csv.gz --server 127.0.0.1:11211 --limit 5000000 --json"""

Request = tuple[bytes, int]
"""A key, and the size of the value that it is set to on a miss."""


class ReplayError(ServerStartError):
    """The server hung up, or answered something else than hits."""


@dataclass
class Outcome:
    """Count what came of the requests."""

    requests: int = 0
    hits: int = 0
    requested_bytes: int = 0
    hit_bytes: int = 0
    seconds: float = 0.0

    @property
    def hit_ratio(self) -> float:
        """Tell which part of the requests was a hit."""
        return self.hits / self.requests if self.requests else 0.0

    @property
    def byte_hit_ratio(self) -> float:
        """Tell which part of the requested bytes was a hit's."""
        return self.hit_bytes / self.requested_bytes if self.requested_bytes else 0.0


class Replay:
    """Ask for keys batch by batch over one connection, and store what was not there."""

    def __init__(self, address: Address) -> None:
        self.outcome = Outcome()
        self._socket = address.connect(TIMEOUT_SECONDS)
        self._filler = b"x" * LARGEST_VALUE

    def run(self, requests: Iterable[Request], batch: int = 50) -> Outcome:
        """Replay all requests. Those of a batch are asked for at once, before any of its misses is stored."""
        began = time.monotonic()
        for chunk in batches(requests, batch):
            self._replay(chunk)
        self._ask(b"version\r\n", b"\r\n")  # the last sets are done once this is answered
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _replay(self, chunk: list[Request]) -> None:
        found = keys_of(self._ask(b"get " + b" ".join([key for key, _ in chunk]) + b"\r\n", b"END\r\n"))
        outcome, missed = self.outcome, []
        for key, size in chunk:
            outcome.requests += 1
            outcome.requested_bytes += size
            if key in found:
                outcome.hits += 1
                outcome.hit_bytes += size
            else:
                missed.append((key, size))
        filler = self._filler
        sets = [b"set %b 0 0 %d noreply\r\n%b\r\n" % (key, size, filler[:size]) for key, size in missed]
        self._socket.sendall(b"".join(sets))

    def _ask(self, request: bytes, end: bytes) -> bytes:
        self._socket.sendall(request)
        answer = self._socket.recv(1 << 18)
        while not answer.endswith(end):
            data = self._socket.recv(1 << 18)
            if not data:
                raise ReplayError("the server hung up")
            answer += data
        return answer


def batches(requests: Iterable[Request], size: int) -> Iterator[list[Request]]:
    """Make batches of at most so many requests. One ends early where a key comes again.

    So that a key that was missed is stored before it is asked for again.
    """
    batch: dict[bytes, int] = {}
    for key, value_bytes in requests:
        if len(batch) == size or key in batch:
            yield list(batch.items())
            batch = {}
        batch[key] = value_bytes
    if batch:
        yield list(batch.items())


def keys_of(answer: bytes) -> set[bytes]:
    """Find the keys of all VALUE blocks. The values hold no line ends, so that lines can be told apart."""
    return {line.split(b" ", 2)[1] for line in answer.split(b"\r\n")[:-2:2]}


def fit(key: bytes) -> bytes:
    """Give the key itself where a server takes it, and its hash otherwise."""
    return hashlib.sha1(key).hexdigest().encode() if len(key) > 250 or not key or UNFIT.search(key) else key


def read_trace(path: Path, size: int) -> Iterator[Request]:
    """Read a trace file line by line.

    size: of the values, where the file does not say it.
    """
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        for number, line in enumerate(lines):
            fields = line.rstrip(b"\r\n").split(b",")
            if len(fields) < 3:
                yield fit(fields[0]), size
            elif fields[2].strip().isdigit():
                yield fit(fields[1]), min(int(fields[2]), LARGEST_VALUE)
            elif number:
                raise ReplayError(f"{path}, line {number + 1}: {fields[2]!r} is no size")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trace",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--server", type=parse_address, default=Address(), metavar="HOST:PORT")
    parser.add_argument("--size", type=int, default=200, metavar="BYTES", help="of values without one (default 200)")
    parser.add_argument(
        "--batch", type=int, default=50, metavar="N", help="keys asked for at once, at most (default 50)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="end after this many requests")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args(arguments)


def spell(outcome: Outcome, as_json: bool) -> str:
    """Spell the outcome for people or for programs."""
    if as_json:
        return json.dumps({**vars(outcome), "hit_ratio": outcome.hit_ratio, "byte_hit_ratio": outcome.byte_hit_ratio})
    return (
        f"{outcome.requests:,} requests in {outcome.seconds:.1f} s, hit ratio {outcome.hit_ratio:.4f},"
        f" of the bytes {outcome.byte_hit_ratio:.4f}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay the file and print the hit ratio; return the exit status."""
    options = parse_arguments(arguments)
    try:
        replay = Replay(options.server)
    except OSError as error:
        print(cannot_connect(options.server, error), file=sys.stderr)
        return 1
    try:
        outcome = replay.run(itertools.islice(read_trace(options.file, options.size), options.limit), options.batch)
    except (OSError, ReplayError) as error:
        print(f"the replay broke off: {error}", file=sys.stderr)
        return 1
    finally:
        replay.close()
    print(spell(outcome, options.json))
    return 0


if __name__ == "__main__":
    sys.exit(main())
