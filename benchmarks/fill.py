"""Store many items over one connection, without asking for answers but every now and then.

Run as its own process: python -m benchmarks.fill PORT ITEMS VALUE_BYTES [--ttl SECONDS] [--overwrites N]
"""

from __future__ import annotations

import argparse
import random
import socket
import sys
from collections.abc import Iterator, Sequence

HOST = "127.0.0.1"
AT_ONCE = 500
ANSWER_SECONDS = 60


def uuid_key(number: int) -> bytes:
    """Name an item, in the 36 bytes of a UUID; the same ones every time."""
    text = b"%032x" % (number * 0x9E3779B97F4A7C15F39CC0605CEDC835 & (1 << 128) - 1)
    return b"-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def set_forms(items: int, size: int, ttl: int) -> Iterator[bytes]:
    """Spell the set of every item once."""
    tail = b" 0 %d %d noreply\r\n%b\r\n" % (ttl, size, b"x" * size)
    return (b"set " + uuid_key(number) + tail for number in range(items))


def overwrites(count: int, items: int, size: int) -> Iterator[bytes]:
    """Spell sets of random items, with values of random sizes up to this one."""
    rng, filler = random.Random(7), b"x" * size
    keys = [uuid_key(number) for number in range(items)]
    for _ in range(count):
        length = rng.randrange(1, size)
        yield b"set %b 0 0 %d noreply\r\n%b\r\n" % (keys[rng.randrange(items)], length, filler[:length])


def send(port: int, requests: Iterator[bytes]) -> None:
    """Send all requests, waiting for the server after each bunch."""
    with socket.create_connection((HOST, port), ANSWER_SECONDS) as connection:
        while bunch := [request for _, request in zip(range(AT_ONCE), requests, strict=False)]:
            connection.sendall(b"".join([*bunch, b"mn\r\n"]))
            if connection.recv(4096) != b"MN\r\n":
                raise ConnectionError("the server refused to store")


def main(arguments: Sequence[str] | None = None) -> int:
    """Store; return the exit status."""
    parser = argparse.ArgumentParser(prog="fill.py", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("items", type=int)
    parser.add_argument("size", type=int)
    parser.add_argument("--ttl", type=int, default=0)
    parser.add_argument("--overwrites", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.overwrites:
        requests = overwrites(options.overwrites, options.items, options.size)
    else:
        requests = set_forms(options.items, options.size, options.ttl)
    try:
        send(options.port, requests)
    except OSError as error:
        print(f"storing broke off: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
