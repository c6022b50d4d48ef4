"""Ask a server for much, again and again, until told to end; print how often it was answered.

Run as its own process, ended by SIGTERM: python -m benchmarks.disturb PORT stream|multiget|metadump
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from collections.abc import Sequence

from benchmarks.durability_load import ANSWER_SECONDS, HOST, name_of

BIG_KEY, BIG_BYTES = b"big", 1_000_000
MULTIGET_KEYS = 5000
NICENESS = 10
"""It shares a core with the load whose latencies are measured, and is not to delay that."""

REQUESTS = {
    "stream": b"get " + BIG_KEY + b"\r\n",
    "multiget": b"get " + b" ".join(map(name_of, range(MULTIGET_KEYS))) + b"\r\n",
    "metadump": b"lru_crawler metadump all\r\n",
}


def disturb(connection: socket.socket, request: bytes) -> None:
    """Send a request and receive all of its answer."""
    connection.sendall(request)
    buffer = memoryview(bytearray(1 << 20))
    last = b""
    while not last.endswith(b"END\r\n"):
        length = connection.recv_into(buffer)
        if not length:
            raise ConnectionError("the server hung up")
        last = (last + bytes(buffer[max(length - 5, 0) : length]))[-5:]
        if last.startswith(b"BUSY") or b"ERROR" in bytes(buffer[:20]):
            raise ConnectionError(f"the server answered {bytes(buffer[:80])!r}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Disturb until the signal; return the exit status."""
    parser = argparse.ArgumentParser(prog="disturb.py", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("kind", choices=REQUESTS)
    options = parser.parse_args(arguments)
    os.nice(NICENESS)
    answered = 0

    def end(*_: object) -> None:
        print(answered, flush=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    try:
        with socket.create_connection((HOST, options.port), ANSWER_SECONDS) as connection:
            while True:
                disturb(connection, REQUESTS[options.kind])
                answered += 1
    except OSError as error:
        print(f"the disturbance broke off: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
