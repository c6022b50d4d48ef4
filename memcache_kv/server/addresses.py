"""How many connections each client address has, and how many of those are still half-open."""

from __future__ import annotations

import ipaddress

from memcache_kv.auth.users import client_network
from memcache_kv.unpatched import threading

HALF_OPEN_SHARE = 4
"""One address may have this part of all connections, a quarter, half-open: others find room while they time out."""


class AddressLimits:
    """The connections by address, as `client_network` gives it. Any thread may call any method: each takes a lock.

    A connection is half-open from its start to the end of its TLS handshake and its login, as far as it needs them.
    Loopback addresses and unix sockets have no limits: a proxy on the same machine has all its clients' connections.

    conn_limit: the limit of all connections; per_address: the limit for each address, or 0 for none; has_half_open:
    whether connections need a handshake or a login.
    """

    def __init__(self, conn_limit: int, per_address: int, has_half_open: bool) -> None:
        self._per_address = per_address
        self._half_open_limit = max(conn_limit // HALF_OPEN_SHARE, 1) if has_half_open else 0
        self._networks: dict[int, str] = {}
        """The address of each connection that counts, by its descriptor."""
        self._half_open: set[int] = set()
        """The descriptors of those that are half-open."""
        self._counts: dict[str, int] = {}
        self._half_open_counts: dict[str, int] = {}
        self.rejected = 0
        """The number of connections that were rejected by these limits."""
        self._lock = threading.Lock()

    @property
    def is_on(self) -> bool:
        """Whether there is any limit."""
        return bool(self._per_address or self._half_open_limit)

    @property
    def is_counting(self) -> bool:
        """Whether any connection counts."""
        return bool(self._networks or self._half_open or self._counts or self._half_open_counts)

    def open(self, fd: int, peer: object) -> bool:
        """Count a new connection and return True, or return False if its address has too many."""
        if not self.is_on or is_local(peer):
            return True
        network = client_network(peer)
        with self._lock:
            if self._is_full(self._counts, network, self._per_address) or self._is_full(
                self._half_open_counts, network, self._half_open_limit
            ):
                self.rejected += 1
                return False
            self._networks[fd] = network
            _add(self._counts, network, 1)
            if self._half_open_limit:
                self._half_open.add(fd)
                _add(self._half_open_counts, network, 1)
            return True

    def settled(self, fd: int) -> None:
        """Take note that a connection has done its handshake and its login."""
        if self.is_on:
            with self._lock:
                self._settle(fd)

    def close(self, fd: int) -> None:
        """Count a connection as closed. To be called while its descriptor is still open, and so nobody else's."""
        if self.is_on:
            with self._lock:
                self._settle(fd)
                network = self._networks.pop(fd, None)
                if network is not None:
                    _add(self._counts, network, -1)

    def _settle(self, fd: int) -> None:
        if fd in self._half_open:
            self._half_open.remove(fd)
            _add(self._half_open_counts, self._networks[fd], -1)

    @staticmethod
    def _is_full(counts: dict[str, int], network: str, limit: int) -> bool:
        return bool(limit) and counts.get(network, 0) >= limit


def _add(counts: dict[str, int], network: str, number: int) -> None:
    """Add to a count, and forget it when it is 0."""
    counts[network] = counts.get(network, 0) + number
    if not counts[network]:
        del counts[network]


def is_local(address: object) -> bool:
    """Return whether a socket address is a loopback address, or no IP address: a unix socket's."""
    if not isinstance(address, tuple):
        return True
    try:
        parsed = ipaddress.ip_address(str(address[0]).partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)
