"""Print the value of a key that a server serves over HTTP: `python -m clients.get HOST:PORT KEY`.

The value is printed as it is, with a line end after it. The exit status is 0 if there is a value, 1 if there is none,
and 2 if the server does not answer or answers with an error.
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote_from_bytes

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from clients.address import Address, parse_address, reason_of

FOUND, MISSING, FAILED = 0, 1, 2
TIMEOUT_SECONDS = 10.0
SHOWN_BYTES = 300
"""So much of an error's text is shown."""


def fetch(address: Address, key: bytes) -> tuple[int, bytes]:
    """Ask for a key; return the status and the body. Raise OSError or HTTPException where no whole answer comes."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/v1/kv/" + quote_from_bytes(key, safe=""))
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m clients.get",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("server", type=_address, metavar="HOST:PORT", help="where the server's --http-listen listens")
    parser.add_argument("key", metavar="KEY")
    return parser.parse_args(arguments)


def _address(text: str) -> Address:
    address = parse_address(text)
    if address.path or not re.search(r":\d+$", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no address: write HOST:PORT")
    return address


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    options = parse_arguments(arguments)
    try:
        status, body = fetch(options.server, os.fsencode(options.key))
    except (OSError, http.client.HTTPException) as error:
        print(f"{options.server} does not answer over HTTP: {reason_of(error).strip()}", file=sys.stderr)
        return FAILED
    if status == http.client.NOT_FOUND:
        print(f"{options.key}: not found", file=sys.stderr)
        return MISSING
    if status != http.client.OK:
        text = body[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
        print(f"{options.server} answers with the status {status}: {text}", file=sys.stderr)
        return FAILED
    sys.stdout.buffer.write(body + b"\n")
    return FOUND


if __name__ == "__main__":
    sys.exit(main())
