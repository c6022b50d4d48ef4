"""The ways in which a client finds the node of a key, each with the same three operations."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pymemcache.client.base import Client  # type: ignore[import-untyped]
from pymemcache.client.hash import HashClient  # type: ignore[import-untyped]

from clients.address import Address

REPLY_SECONDS = 30.0


@dataclass(frozen=True)
class Targets:
    """Where a load connects: the nodes, by both protocols, or the proxy in front of them."""

    memcached: Sequence[Address]
    http: Sequence[Address]
    proxy: Address | None = None


class Way(Protocol):
    """One client; each operation says whether it did what it should. `number` counts the client's requests."""

    def set(self, number: int, key: str, value: str) -> bool:
        """Store an item."""

    def get(self, number: int, key: str, value: str) -> bool:
        """Read an item, and compare it."""

    def delete(self, number: int, key: str, value: str) -> bool:
        """Delete an item."""

    def close(self) -> None:
        """Close the connections."""


class HttpConnection:
    """A connection that is kept until the server announces that it closes it; every reply has a Content-Length."""

    def __init__(self, address: Address) -> None:
        """Connect."""
        self._address = address
        self._connect()

    def _connect(self) -> None:
        self._socket = self._address.connect(REPLY_SECONDS)
        self._replies = self._socket.makefile("rb")
        self._is_over = False

    def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Send a request; return the status and the body of the reply. Raises OSError."""
        if self._is_over:
            self.close()
            self._connect()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._address}\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self._socket.sendall(head.encode() + b"\r\n" + body)
        return self._read_reply()

    def _read_reply(self) -> tuple[int, bytes]:
        status_line = self._replies.readline()
        if not status_line:
            self._is_over = True
            raise ConnectionResetError("the server closed the connection")
        length = 0
        while (line := self._replies.readline()) not in (b"\r\n", b""):
            name, _, text = line.lower().partition(b":")
            if name == b"content-length":
                length = int(text)
            elif name == b"connection":
                self._is_over = text.strip() == b"close"
        return int(status_line.split(None, 2)[1]), self._replies.read(length)

    def close(self) -> None:
        """Close the connection."""
        self._replies.close()
        self._socket.close()


class HttpWay:
    """PUT, GET and DELETE of /KEY with JSON, at the addresses in turn: the same one for the same number."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        """Connect to all."""
        self._connections = [HttpConnection(address) for address in addresses]

    def _next(self, number: int) -> HttpConnection:
        return self._connections[number % len(self._connections)]

    def set(self, number: int, key: str, value: str) -> bool:
        """Store an item."""
        body = json.dumps({"value": value}).encode()
        return self._next(number).request("PUT", f"/{key}", body)[0] == 200

    def get(self, number: int, key: str, value: str) -> bool:
        """Read an item, and compare it."""
        status, body = self._next(number).request("GET", f"/{key}")
        return status == 200 and json.loads(body) == {"value": value}

    def delete(self, number: int, key: str, value: str) -> bool:
        """Delete an item."""
        return self._next(number).request("DELETE", f"/{key}")[0] == 200

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()


class MemcachedWay:
    """pymemcache, which finds the node by itself or leaves that to a proxy."""

    def __init__(self, client: Client | HashClient) -> None:
        """Use this client."""
        self._client = client

    def set(self, number: int, key: str, value: str) -> bool:
        """Store an item."""
        return bool(self._client.set(key, value.encode(), noreply=False))

    def get(self, number: int, key: str, value: str) -> bool:
        """Read an item, and compare it."""
        return bool(self._client.get(key) == value.encode())

    def delete(self, number: int, key: str, value: str) -> bool:
        """Delete an item."""
        return bool(self._client.delete(key, noreply=False))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _http_in_turn(targets: Targets) -> Way:
    return HttpWay(targets.http)


def _http_by_nginx(targets: Targets) -> Way:
    assert targets.proxy is not None
    return HttpWay([targets.proxy])


def _memcached_by_hash(targets: Targets) -> Way:
    servers = [address.for_pymemcache() for address in targets.memcached]
    return MemcachedWay(HashClient(servers, timeout=REPLY_SECONDS, no_delay=True))


def _memcached_by_twemproxy(targets: Targets) -> Way:
    assert targets.proxy is not None
    return MemcachedWay(Client(targets.proxy.for_pymemcache(), timeout=REPLY_SECONDS, no_delay=True))


@dataclass(frozen=True)
class WayKind:
    """One way: its title, how a client of it is made, and the proxy's program, if it has one."""

    title: str
    connect: Callable[[Targets], Way]
    program: str = ""


WAYS = {
    "http": WayKind("HTTP in turn", _http_in_turn),
    "nginx": WayKind("HTTP, nginx", _http_by_nginx, "nginx"),
    "memcached": WayKind("HashClient", _memcached_by_hash),
    "twemproxy": WayKind("twemproxy", _memcached_by_twemproxy, "nutcracker"),
}
