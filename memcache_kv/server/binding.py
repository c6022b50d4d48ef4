"""The addresses of a server: they are parsed and listened on here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from memcache_kv.auth.access import CommandClass
from memcache_kv.config.settings import Settings, split_class_prefix
from memcache_kv.errors import ListenError
from memcache_kv.observe.log import Log
from memcache_kv.server.listener import ListenerOptions, ListenerTraits, MemcacheServer, UnixMemcacheServer
from memcache_kv.unpatched import socket

if TYPE_CHECKING:
    from memcache_kv.protocol.dialect import Dialect
    from memcache_kv.server.tls import Tls

LOOPBACKS = ("127.0.0.1", "::1")
FREE_PORT_TRIES = 10
"""How many ports are tried where any free one will do."""
NO_PORT = -1
"""The port of an address that has none, where one is required."""


class Binding:
    """The listeners of one server, which `bind` makes.

    settings: the addresses; options: what all listeners have in common; tls: the certificates, None without TLS;
    inherited: the sockets that another process has bound, by their addresses in the settings.
    """

    def __init__(
        self,
        settings: Settings,
        options: ListenerOptions,
        log: Log,
        tls: Tls | None,
        inherited: Mapping[str, socket.socket],
    ) -> None:
        self.listeners: list[MemcacheServer] = []
        self._settings = settings
        self._options = options
        self._log = log
        self._tls = tls
        self._inherited = inherited

    @property
    def port(self) -> int:
        """The first TCP port with memcached's protocols; 0 if there is none."""
        return next((each.port for each in self.listeners if each.port and each.dialect is None), 0)

    def bind(self, dialects: Iterable[tuple[Dialect, tuple[str, ...]]]) -> None:
        """Listen on all addresses. dialects: protocols with addresses of their own, and these. Raises ListenError."""
        settings, own = self._settings, []
        if settings.unix_socket is not None and not self._has_inherited(settings.unix_socket):
            self.listeners.append(UnixMemcacheServer(settings.unix_socket, settings.unix_mask, self._options))
        for text in settings.listen:
            traits, address = self._traits(text)
            if address in self._inherited:
                self._add_inherited(address, traits)
            else:
                own.append((split_address(address, settings.port), traits))
        if own:
            self._on_a_free_port(lambda: self._bind_to_all(own), settings.port)
        if not settings.listen and (settings.unix_socket is None or settings.port_given):
            self._on_a_free_port(lambda: self._bind_to_loopbacks(settings.port), settings.port)
        for dialect, texts in dialects:
            for text in texts:
                self.bind_dialect(dialect, text)

    def bind_dialect(self, dialect: Dialect, text: str) -> None:
        """Listen on [HOST:]PORT, without a host on the loopback addresses, or on the path of a unix socket.

        Raises ListenError.
        """
        traits, address = self._traits(text, dialect)
        if address in self._inherited:
            self._add_inherited(address, traits)
            return
        if "/" in address:
            traits = traits._replace(tls_listener=None)
            self.listeners.append(UnixMemcacheServer(Path(address), self._settings.unix_mask, self._options, traits))
            return
        host, port = split_address(f"localhost:{address}" if address.isdigit() else address, NO_PORT)
        if port == NO_PORT:
            raise ListenError(f"can't listen on {text} for the {dialect.name} protocol: write [HOST:]PORT or a path")
        if address.isdigit():
            self._on_a_free_port(lambda: self._bind_to_loopbacks(port, traits), port)
        else:
            self._bind_to(host, port, traits)

    def _has_inherited(self, path: Path) -> bool:
        """Return whether an inherited socket is bound to this path."""
        return any(
            sock.family == socket.AF_UNIX and sock.getsockname() == str(path) for sock in self._inherited.values()
        )

    def _add_inherited(self, address: str, traits: ListenerTraits) -> None:
        """Listen on a socket that another process has bound. A unix socket has no TLS, as with -s."""
        from memcache_kv.server.activation import InheritedServer

        sock = self._inherited[address]
        if sock.family == socket.AF_UNIX:
            traits = traits._replace(tls_listener=None)
        self.listeners.append(InheritedServer(sock, self._options, traits))

    def _traits(self, text: str, dialect: Dialect | None = None) -> tuple[ListenerTraits, str]:
        """Return what the prefixes of a listening address say, and the address without them."""
        name, rest = split_class_prefix(text)
        tls_listener, address = (None, rest) if self._tls is None else self._tls.tls_listener(rest)
        return ListenerTraits(tls_listener, CommandClass[name.upper()] if name else None, dialect), address

    def _on_a_free_port(self, bind: Callable[[], None], port: int) -> None:
        """Bind. A free port that the system chose for the first address may be in use at another; then take the next.

        port: the port to bind to; only 0 leaves a choice. Raises ListenError.
        """
        were = len(self.listeners)
        for tries_left in reversed(range(FREE_PORT_TRIES)):
            try:
                bind()
            except ListenError as error:
                if port or not tries_left or not _is_in_use(error):
                    raise
            else:
                return
            for listener in self.listeners[were:]:
                listener.server_close()
            del self.listeners[were:]

    def _bind_to_all(self, addresses: list[tuple[tuple[str, int], ListenerTraits]]) -> None:
        for (host, port), traits in addresses:
            self._bind_to(host, port, traits)

    def _bind_to(self, host: str, port: int, traits: ListenerTraits) -> None:
        """Listen on every address of a host name."""
        if port == 0 and self.port and not self._settings.port and traits.dialect is None:
            port = self.port  # one free port for all addresses
        try:
            found = socket.getaddrinfo(_plain(host) or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (socket.gaierror, UnicodeError) as error:
            raise ListenError(f"can't listen on {host}: {getattr(error, 'strerror', error)}") from None
        taken = [listener.server_address for listener in self.listeners if listener.dialect == traits.dialect]
        for family, _, _, _, address in dict.fromkeys(found):
            if address not in taken:  # an address may be given twice, such as by an image and by its user
                self._add_listener(address, family, traits)

    def _bind_to_loopbacks(self, port: int, traits: ListenerTraits | None = None) -> None:
        """Listen on both loopback addresses, as `localhost` may mean either. Without IPv6, one is enough."""
        first, second = LOOPBACKS
        if traits is None:
            traits, _ = self._traits("")
        bound = self._add_listener((first, port), socket.AF_INET, traits)
        try:
            self._add_listener((second, bound.port), socket.AF_INET6, traits)
        except ListenError as error:
            if socket.has_ipv6 and _is_in_use(error):
                raise
            self._log.event(str(error))

    def _add_listener(self, address: tuple[object, ...], family: int, traits: ListenerTraits) -> MemcacheServer:
        listener = MemcacheServer(address, family, self._options, traits)
        self.listeners.append(listener)
        return listener


def _is_in_use(error: ListenError) -> bool:
    return "in use" in str(error)


def _plain(host: str) -> str | bytes:
    """Return a numeric address as bytes, so that Python does not load its codec for international names."""
    return host.encode() if host.isascii() and (":" in host or host.replace(".", "").isdigit()) else host


def split_address(text: str, port: int) -> tuple[str, int]:
    """Split ADDR, ADDR:PORT, [IPV6] or [IPV6]:PORT into a host, empty for "*", and a port.

    port: the port if the text has none. Raises ListenError if the text is not an address.
    """
    if text.startswith("["):
        host, closed, tail = text[1:].partition("]")
        if not closed or (tail and not tail.startswith(":")):
            raise ListenError(f"can't listen on {text}: write an IPv6 address as [::1] or [::1]:11211")
        given = tail[1:]
    elif text.count(":") == 1:
        host, _, given = text.partition(":")
    else:
        host, given = text, ""
    if given and not (given.isascii() and given.isdigit() and len(given) < 6 and int(given) < 65536):
        raise ListenError(f"can't listen on {text}: {given!r} is not a port")
    return ("" if host == "*" else host), int(given) if given else port
