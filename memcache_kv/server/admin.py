"""The admin listener of a server: its addresses, its thread, and the limits that it has for itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from memcache_kv.clock import Clock
from memcache_kv.observe.log import Log
from memcache_kv.observe.observers import Observers
from memcache_kv.protocol import Context
from memcache_kv.protocol.admin.listener import admin_dialect
from memcache_kv.server.addresses import AddressLimits, is_local
from memcache_kv.server.admin_loop import AdminLoop
from memcache_kv.server.binding import Binding
from memcache_kv.server.listener import ListenerOptions, MemcacheServer, UnixMemcacheServer
from memcache_kv.stats.connections import ConnectionMemory, ConnectionTotals
from memcache_kv.stats.counters import Counters
from memcache_kv.unpatched import socket

if TYPE_CHECKING:
    from memcache_kv.auth.admin_token import AdminToken
    from memcache_kv.config.settings import Settings
    from memcache_kv.protocol.admin.observed import ObservedServer
    from memcache_kv.server.tls import Tls
    from memcache_kv.store import ItemStore
    from memcache_kv.store.crawler import Crawler
    from memcache_kv.threads import OnFault

ADMIN_CONNECTIONS = 32
"""The limit of simultaneous admin connections."""
ADMIN_CONNECTIONS_PER_ADDRESS = 16
ADMIN_BACKLOG = 64


class AdminServer:
    """The admin listeners and the thread that serves them. One thread calls `start` and `stop`, once each.

    server: what is shown; tls: the certificates, None without TLS; inherited: the sockets that another process has
    bound, by their addresses in the settings. Raises ConfigError if the token can't be read.
    """

    def __init__(
        self,
        settings: Settings,
        server: ObservedServer,
        store: ItemStore,
        crawler: Crawler,
        log: Log,
        tls: Tls | None,
        inherited: Mapping[str, socket.socket],
    ) -> None:
        self._settings = settings
        self._log = log
        self.token: AdminToken | None = None
        """What a request for a page must have; None if nothing."""
        if settings.admin_token_file is not None:
            from memcache_kv.auth.admin_token import AdminToken

            self.token = AdminToken(settings.admin_token_file)
        self.tls = tls
        self._dialect = admin_dialect(settings, server, self.token, log)
        totals = ConnectionTotals(ADMIN_CONNECTIONS)
        addresses = AddressLimits(ADMIN_CONNECTIONS, ADMIN_CONNECTIONS_PER_ADDRESS, has_half_open=False)
        self._loop = AdminLoop(self._context(store, crawler, totals), addresses)
        options = ListenerOptions(totals, addresses, self._loop.adopt, log, ADMIN_BACKLOG, waits=False)
        self._binding = Binding(settings, options, log, tls, inherited)
        self.listeners: list[MemcacheServer] = self._binding.listeners
        self._is_running = False

    def _context(self, store: ItemStore, crawler: Crawler, totals: ConnectionTotals) -> Context:
        """Return the server as the sessions see it, who use nothing but its settings, clock and log."""
        settings = self._settings._replace(max_item_size=0, journal=None)
        counters = Counters()
        return Context(
            settings=settings,
            clock=Clock(),
            store=store,
            log=self._log,
            observers=Observers(self._log),
            counters=counters,
            all_counters=[counters],
            totals=totals,
            connection_memory=ConnectionMemory(settings.connection_memory_bytes),
            crawler=crawler,
            journal=None,
            compactor=None,
            connections=lambda asking: (),
            stop=lambda is_graceful: None,
        )

    @property
    def addresses(self) -> list[str]:
        """The addresses that it listens on, each HOST:PORT or the path of a unix socket."""
        return [each.address for each in self.listeners]

    def start(self, on_fault: OnFault) -> None:
        """Listen and answer. on_fault: called with an exception that ends a thread. Raises ListenError."""
        for text in self._settings.admin_listen:
            self._binding.bind_dialect(self._dialect, text)
        for listener in self.listeners:
            listener.activate()
        self._is_running = True
        self._loop.on_fault = on_fault
        self._loop.start()
        for listener in self.listeners:
            listener.on_fault = on_fault
            listener.start()
        self._log.say(f"the admin listener answers on {', '.join(self.addresses)}")
        self._warn_of_strangers()

    def _warn_of_strangers(self) -> None:
        """Log a warning if anybody beyond this machine can read the pages. Nobody can change anything by them."""
        strangers = [
            each.address
            for each in self.listeners
            if self.token is None
            and not is_local(each.server_address)
            and not (each.tls_listener and each.tls_listener.requires_certificate)
        ]
        if strangers:
            self._log.warn(
                f"anybody who can reach {', '.join(strangers)} can read the statistics and settings; "
                "--admin-token-file FILE asks for a token"
            )

    def stop(self) -> None:
        """Stop listening, close the connections, and end the threads. It may not have started."""
        for listener in self.listeners:
            if self._is_running:
                listener.stop()
            else:
                listener.server_close()
                if isinstance(listener, UnixMemcacheServer):
                    listener.remove_file()
        if self._is_running:
            self._loop.stop()
            self._loop.join()
        self._loop.close()
