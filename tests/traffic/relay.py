"""A relay between clients and a server that tells a listener about each call."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable

from memcache_kv.traffic.conversation import Call, Conversation
from tests.closing import Closing

RELAYED_BYTES = 1 << 16


class Relay(Closing):
    """Passes on what clients and a server say, one thread for each connection."""

    def __init__(self, upstream: tuple[str, int], listener: Callable[[Call], None]) -> None:
        self._upstream, self._listener = upstream, listener
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._socket.getsockname()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """Accept nothing more, and wait until the clients have closed their connections."""
        self._socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:  # those of connections are behind the one that accepts them
            thread.join()
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the socket was shut down
            while True:
                client, _ = self._socket.accept()
                thread = threading.Thread(target=self._pass_on, args=(client, len(self._threads)))
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, client: socket.socket, number: int) -> None:
        conversation = Conversation(number)
        with client, socket.create_connection(self._upstream) as server, selectors.DefaultSelector() as ready:
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ready.register(one, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    data = _received(client if key.fileobj is client else server)
                    if not data:
                        self._tell(conversation.ended())
                        return
                    if key.fileobj is client:
                        conversation.asked(data)
                        self._tell(conversation.answered(b""))
                        server.sendall(data)
                    else:
                        self._tell(conversation.answered(data))
                        client.sendall(data)

    def _tell(self, calls: list[Call]) -> None:
        for call in calls:
            self._listener(call)


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(RELAYED_BYTES)
    except ConnectionError:
        return b""
