"""A server in a thread that answers as a test wants it to."""

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

PATIENCE_SECONDS = 30.0

Handler = Callable[[socket.socket, int], None]
"""Serves one connection; gets its number, counted from 0."""


class FakeServer:
    """Accepts connections, one handler at a time, until the block ends."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        number = 0
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(PATIENCE_SECONDS)
                self._handle(connection, number)
            number += 1

    def stop_listening(self) -> None:
        """Let later connections be refused."""
        self._listener.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # it has stopped listening already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_SECONDS)


def answer_lines(connection: socket.socket, most: int) -> None:
    """Answer that many requests of the line protocol with `OK v`, or all until the client closes."""
    lines = connection.makefile("rb")
    for _ in range(most):
        if not lines.readline():
            return
        connection.sendall(b"OK v\n")
