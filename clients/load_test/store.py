"""Store all keys before the measurement, so that each get can be a hit."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterable, Iterator

from clients.address import Address
from clients.load_test.wires.wire import Outcome, Wire

BATCH = 500
"""Requests in flight."""
PATIENCE_SECONDS = 60.0
READ_BYTES = 262144


class StoreError(Exception):
    """A key that the server does not store; the message has its reply."""


def store_all(wire: Wire, address: Address, rows: Iterable[tuple[bytes, bytes]]) -> Iterator[int]:
    """Store keys with their values; yield how many are stored after each batch.

    Raises OSError, StoreError and BadReply.
    """
    stored, waiting = 0, iter(rows)
    with address.connect(PATIENCE_SECONDS) as connection:
        while batch := list(itertools.islice(waiting, BATCH)):
            connection.sendall(b"".join([wire.put(key, value) for key, value in batch]))
            _expect_stored(wire, connection, len(batch))
            stored += len(batch)
            yield stored


def _expect_stored(wire: Wire, connection: socket.socket, count: int) -> None:
    """Read the replies of a batch; raise StoreError at the first that is no success."""
    arrived, position = b"", 0
    while count:
        end, outcome = wire.reply(arrived, position, False)
        if not end:
            piece = connection.recv(READ_BYTES)
            if not piece:
                raise StoreError("the server closed the connection while the keys were stored")
            arrived, position = arrived[position:] + piece, 0
        elif outcome is not Outcome.STORED:
            raise StoreError(f"the server does not store a key: {wire.words_of(arrived[position:end])}")
        else:
            count, position = count - 1, end
