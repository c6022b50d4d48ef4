"""One running server: how its parts are put together, started and stopped. Usable from any program."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from memcache_kv.auth.users import FailedLogins, Users
from memcache_kv.clock import Clock
from memcache_kv.config.settings import Settings
from memcache_kv.errors import ConfigError, JournalFailed, ListenError, ThreadDied
from memcache_kv.observe.log import Log
from memcache_kv.observe.observers import Observers
from memcache_kv.observe.prefixes import Prefixes
from memcache_kv.observe.watchers import Stream, Watchers
from memcache_kv.protocol import Context
from memcache_kv.server import machine, process
from memcache_kv.server.listener import ListeningAddress, MemcacheServer, UnixMemcacheServer
from memcache_kv.server.memory import MemoryWatch
from memcache_kv.server.worker import Worker
from memcache_kv.stats.connections import ConnectionStatus, ConnectionTotals
from memcache_kv.stats.counters import Counters
from memcache_kv.store import Entry, Store
from memcache_kv.store.crawler import Crawler
from memcache_kv.store.sizes import size_classes
from memcache_kv.store.time import Time

if TYPE_CHECKING:
    from memcache_kv.journal import Compactor, Journal
    from memcache_kv.journal.lifecycle import JournalLifecycle
    from memcache_kv.server.tls import Tls, TlsListener
    from memcache_kv.server.udp import UdpServer

LOOPBACKS = ("127.0.0.1", "::1")
THREADS_WITHOUT_GIL = 2


class StopRequest:
    """The wish that the server end. Any thread may make it, and a signal's handler too: unlike an Event's, its `set`
    takes no lock, which the interrupted thread might hold."""

    def __init__(self) -> None:
        self._set = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    def set(self) -> None:
        """Wish it."""
        if not self._set:
            self._set = True
            with contextlib.suppress(OSError):  # it is closed: nobody waits any more
                os.write(self._write, b"s")

    def fileno(self) -> int:
        """Return a descriptor for `signal.set_wakeup_fd`, so that a signal which comes just before `wait` blocks is
        not left lying: its handler runs only once something wakes the thread."""
        return self._write

    def is_set(self) -> bool:
        """Tell whether anybody has."""
        return self._set

    def wait(self) -> bool:
        """Block until somebody does, or a signal has been handled; tell whether somebody has.

        For the main thread alone.
        """
        if not self._set:
            select.select([self._read], [], [])
            os.read(self._read, 64)
        return self._set

    def close(self) -> None:
        """Give its descriptors back, when nobody waits any more."""
        os.close(self._read)
        os.close(self._write)


class Server:
    """A server with its store, journal, workers and listeners.

    `start` recovers the journal, then listens; `stop` drains and flushes; both block until done and are called once, by
    one thread. `stopping` is set when somebody (a client's `shutdown`, a thread that ends by a fault) asks for the
    end; whoever runs the service waits for it and calls `stop`. `failure` says then what went wrong.

    Raises JournalError, ListenError, ConfigError for users or certificates that can't be used, and StoppedEarly where
    the end was wanted before the start was over.
    """

    def __init__(self, settings: Settings, clock: Time | None = None, log: Log | None = None) -> None:
        self.settings = settings
        self.clock: Time = clock if clock is not None else Clock()
        self.log = log if log is not None else Log(settings.verbose)
        sizes = size_classes(settings)
        self.watchers = Watchers(self.clock, settings.extended.watcher_logbuf_size, sizes=sizes)
        prefixes = Prefixes(settings.stats_delimiter, settings.detail_enabled)
        self.observers = Observers(self.log, prefixes, self.watchers)
        self.stopping = StopRequest()
        self.store = Store(
            self.clock,
            limit_bytes=settings.memory_limit,
            item_limit_bytes=settings.max_item_size,
            max_items=settings.max_items,
            evicts=not settings.disable_evictions,
            gives_cas=not settings.disable_cas,
            shards=settings.shards,
            sizes=sizes,
        )
        self.watchers.follow(self._streams_changed)
        self.totals = ConnectionTotals(settings.conn_limit)
        self._listening_address = ListeningAddress(
            self.totals, self._hand_over, self.log, settings.backlog, waits=not settings.maxconns_fast
        )
        self.crawler = Crawler(self.store, settings.lru_crawler, settings.crawler_sleep_us, settings.crawler_tocrawl)
        self.memory_watch = MemoryWatch(self.store)
        self.listeners: list[MemcacheServer] = []
        self.udp_listeners: list[UdpServer] = []
        self.workers: list[Worker] = []
        self._threads = settings.threads or default_threads()
        self._all_counters: list[Counters] = []
        self._fault: ThreadDied | None = None
        self._failed_logins = FailedLogins()
        self._users = Users(settings.auth_file) if settings.auth_file is not None else None
        self._load_parts()
        for path in (settings.auth_file, settings.tls.ssl_key):
            if path is not None:
                process.warn_of_readers(Path(path), self.log)

    def _load_parts(self) -> None:
        """Load what only some settings ask for: together that would be half of a start.

        Not later than this, as the user that -u names may not be able to read the code.
        """
        settings = self.settings
        self.tls: Tls | None = None
        if settings.enable_ssl:
            from memcache_kv.server.tls import Tls

            self.tls = Tls(settings.tls)
        self._udp_server: type[UdpServer] | None = None
        if settings.udp_port:
            from memcache_kv.server.udp import UdpServer

            self._udp_server = UdpServer
        self._lifecycle: JournalLifecycle | None = None
        if settings.journal is not None:
            from memcache_kv.journal.lifecycle import JournalLifecycle

            self._lifecycle = JournalLifecycle(
                settings.journal, settings, self.store, self.log, self.stopping, self._thread_died
            )

    @property
    def journal(self) -> Journal | None:
        """The journal that it keeps; None without one, and until `start` opens it."""
        return None if self._lifecycle is None else self._lifecycle.journal

    @property
    def compactor(self) -> Compactor | None:
        """What rewrites that journal."""
        return None if self._lifecycle is None else self._lifecycle.compactor

    @property
    def failure(self) -> ThreadDied | JournalFailed | None:
        """Why it did not end as it should: a thread ended by a fault, or the journal could not be written."""
        if self._fault is not None:
            return self._fault
        return None if self._lifecycle is None else self._lifecycle.failure

    @property
    def addresses(self) -> list[str]:
        """Where it really listens: HOST:PORT, or a socket's path."""
        return [listener.address for listener in self.listeners]

    @property
    def port(self) -> int:
        """The TCP port it really listens on; 0 where there is none."""
        return next((listener.port for listener in self.listeners if listener.port), 0)

    def start(self) -> None:
        """Recover what the journal has, start the threads and listen."""
        try:
            self._bind()  # first, so that a server on a taken port does not touch the journal
            if self._lifecycle is not None:
                self._lifecycle.open()
            self._warn_of_memory()
            self._bind_udp()
            for server in self.listeners:
                server.activate()
        except BaseException:
            self._close_listeners()
            if self._lifecycle is not None:
                self._lifecycle.close()
            self.stopping.close()
            raise
        self._start_workers()
        for thread in (self.crawler, self.memory_watch):
            thread.on_fault = self._thread_died
            thread.start()
        if self.compactor is not None:
            self.compactor.start()
        for listener in self._all_listeners():
            listener.on_fault = self._thread_died
            listener.start()
        if self.settings.port_file is not None:
            process.write_ports(self.settings.port_file, self._port_lines(), self.log)
        self.log.say(f"listening on {', '.join(self.addresses)}")

    def reload(self) -> None:
        """Read the authentication file and the certificates again; what can't be used leaves them as they are."""
        for what, part in (("users", self._users), ("certificates", self.tls)):
            if part is None:
                continue
            try:
                part.reload()
                self.log.event(f"read the {what} again")
            except ConfigError as error:
                self.log.say(f"{error}; the {what} stay as they are")

    def stop(self) -> None:
        """Accept no more, send what is ready, write and sync the journal."""
        self.stopping.set()
        for listener in self._all_listeners():
            listener.stop()
        for worker in self.workers:
            worker.stop()
        for worker in self.workers:
            worker.join()
        self.crawler.stop()
        self.memory_watch.stop()
        if self.compactor is not None:
            self.compactor.stop()
        if self._lifecycle is not None:
            self._lifecycle.close()
        for worker in self.workers:
            worker.close()  # not before: the journal's thread wakes them
        self.stopping.close()

    # Parts

    def _start_workers(self) -> None:
        for _ in range(self._threads):
            self.workers.append(Worker(self._new_context(), self._users, self._failed_logins, self.tls))
        self._turns = itertools.cycle(self.workers)
        for worker in self.workers:
            worker.on_fault = self._thread_died
            worker.start()

    def _thread_died(self, name: str, error: BaseException) -> None:
        """Ask for the end, as nobody does any more what one of our threads did. May be called by any thread."""
        self.log.fatal(f"the thread {name!r} ended by a fault of the server", error, "it stops now")
        self._fault = self._fault or ThreadDied(f"the thread {name!r} ended by a fault of the server: {error!r}")
        self.stopping.set()

    def _warn_of_memory(self) -> None:
        """Say so where this server may need more memory than it can have: the system would kill it."""
        needed = self.memory_watch.most_bytes + (0 if self.journal is None else self.journal.most_bytes)
        warning = machine.warning(needed, self.store.limit_bytes, machine.memory_bound())
        if warning is not None:
            self.log.say(warning)

    def _all_listeners(self) -> list[MemcacheServer | UdpServer]:
        return [*self.listeners, *self.udp_listeners]

    def _port_lines(self) -> Iterable[str]:
        """Name every port in memcached's form: `TCP INET: 11211`."""
        for listener in self._all_listeners():
            if listener.address_family != socket.AF_UNIX:
                family = "INET6" if listener.address_family == socket.AF_INET6 else "INET"
                yield f"{listener.transport} {family}: {listener.port}"

    def _bind_udp(self) -> None:
        """Answer datagrams on the addresses that TCP listens on, but for those where a client needs a certificate.

        Datagrams have no TLS: whoever asks for them accepts that, but they must be no way round a login.
        """
        if self._udp_server is None:
            return
        if self.tls is not None:
            self.log.say("warning: UDP is not encrypted, and not answered where a client's certificate is required")
        hosts = {}  # several ports of one host have one socket for datagrams
        for listener in self.listeners:
            if listener.port and not (listener.tls_listener and listener.tls_listener.requires_certificate):
                hosts[listener.server_address[0]] = listener.address_family
        for host, family in hosts.items():
            self.udp_listeners.append(self._udp_server((host, self.settings.udp_port), family, self._new_context()))

    def _new_context(self) -> Context:
        """Make the context of one more thread that serves, with counters of its own."""
        counters = Counters()
        self._all_counters.append(counters)
        context = Context(
            settings=self.settings,
            clock=self.clock,
            store=self.store,
            log=self.log,
            observers=self.observers,
            counters=counters,
            all_counters=self._all_counters,
            totals=self.totals,
            crawler=self.crawler,
            journal=self.journal,
            compactor=self.compactor,
            connections=self._connections,
            stop=self.stopping.set,
            tcp_port=self.port,
            threads=self._threads,
            recovered_records=0 if self._lifecycle is None else self._lifecycle.recovered_records,
        )
        context.tls = self.tls
        return context

    def _streams_changed(self) -> None:
        """Have evictions told while somebody watches them."""
        if self.watchers.is_watched(Stream.EVICTIONS):
            self.store.keep_access_metadata()
            self.store.watch_evictions(self._evicted)
        else:
            self.store.watch_evictions(None)

    def _evicted(self, key: bytes, entry: Entry) -> None:
        self.watchers.evicted(key, entry, self.store.accessed_at(entry))

    def _hand_over(self, sock: socket.socket) -> None:
        next(self._turns).adopt(sock)

    def _connections(self, asking: int) -> Iterable[ConnectionStatus]:
        for listener in self._all_listeners():
            yield listener.status()
        for worker in self.workers:
            yield from worker.statuses(asking)

    # Listening

    def _bind(self) -> None:
        settings = self.settings
        if settings.unix_socket is not None:
            self.listeners.append(UnixMemcacheServer(settings.unix_socket, settings.unix_mask, self._listening_address))
            if not settings.port_given and not settings.listen:
                return
        for text in settings.listen:
            tls_listener, address = self._tls_listener(text)
            self._bind_to(*split_address(address, settings.port), tls_listener)
        if not settings.listen:
            self._bind_to_loopbacks()

    def _tls_listener(self, text: str = "") -> tuple[TlsListener | None, str]:
        """Read what kind of door an address says it is, None where it is plain; return that and the rest of it."""
        return (None, text) if self.tls is None else self.tls.tls_listener(text)

    def _bind_to(self, host: str, port: int, tls_listener: TlsListener | None) -> None:
        """Listen on every address that a host name stands for."""
        if port == 0 and self.port and not self.settings.port:
            port = self.port  # one free port for all addresses
        try:
            found = socket.getaddrinfo(_plain(host) or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (socket.gaierror, UnicodeError) as error:
            raise ListenError(f"can't listen on {host}: {getattr(error, 'strerror', error)}") from None
        taken = [listener.server_address for listener in self.listeners]
        for family, _, _, _, address in dict.fromkeys(found):
            if address not in taken:  # said twice, as in a container that adds to the image's own arguments
                self._add_listener(address, family, tls_listener)

    def _bind_to_loopbacks(self) -> None:
        """Listen on both loopbacks, as `localhost` may mean either; one is enough where there is no IPv6."""
        first, second = LOOPBACKS
        tls_listener, _ = self._tls_listener()
        self._add_listener((first, self.settings.port), socket.AF_INET, tls_listener)
        try:
            self._add_listener((second, self.port), socket.AF_INET6, tls_listener)
        except ListenError as error:
            if self.settings.port and socket.has_ipv6 and "in use" in str(error):
                raise
            self.log.event(str(error))

    def _add_listener(self, address: tuple[object, ...], family: int, tls_listener: TlsListener | None) -> None:
        self.listeners.append(MemcacheServer(address, family, self._listening_address, tls_listener))

    def _close_listeners(self) -> None:
        for listener in self._all_listeners():
            listener.server_close()
        if self.settings.unix_socket is not None and self.listeners:
            self.settings.unix_socket.unlink(missing_ok=True)


def _plain(host: str) -> str | bytes:
    """Return a numeric address as bytes: as text it would go through the codec for international names, once loaded."""
    return host.encode() if host.isascii() and (":" in host or host.replace(".", "").isdigit()) else host


def split_address(text: str, port: int) -> tuple[str, int]:
    """Split ADDR, ADDR:PORT, [IPV6] or [IPV6]:PORT; `port` stands in where the text has none.

    Raises ListenError where the port is not one.
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


def default_threads() -> int:
    """Choose the number of workers: under the GIL one is the fastest, and each further one costs."""
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    return 1 if has_gil else min(THREADS_WITHOUT_GIL, os.cpu_count() or 1)
