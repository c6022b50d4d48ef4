"""One server: its parts are assembled, started and stopped here. Any program can embed it."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from memcache_kv.auth.access import CommandClass
from memcache_kv.auth.users import Logins, Users
from memcache_kv.clock import Clock
from memcache_kv.compiled import FLAVOR
from memcache_kv.config.settings import Settings
from memcache_kv.errors import ConfigError, JournalFailed, StoppedEarly, ThreadDied
from memcache_kv.observe.log import Log
from memcache_kv.observe.log_form import Level
from memcache_kv.observe.log_setup import make_log, open_log_file
from memcache_kv.observe.observers import Observers
from memcache_kv.observe.prefixes import Prefixes
from memcache_kv.observe.watchers import Stream, Watchers
from memcache_kv.protocol import Context
from memcache_kv.server import machine, process
from memcache_kv.server.addresses import AddressLimits, is_local
from memcache_kv.server.binding import Binding
from memcache_kv.server.condition import Condition, Phase
from memcache_kv.server.dialects import dialects_of, needs_h11
from memcache_kv.server.listener import ListenerOptions, MemcacheServer, UnixMemcacheServer
from memcache_kv.server.memory import MemoryWatch
from memcache_kv.server.memory_plan import memory_warning
from memcache_kv.server.stop_request import StopRequest
from memcache_kv.server.worker import Worker
from memcache_kv.stats.connections import ConnectionMemory, ConnectionStatus, ConnectionTotals
from memcache_kv.stats.counters import Counters
from memcache_kv.stats.latency import Latency
from memcache_kv.store import Entry, item_store
from memcache_kv.store.crawler import Crawler
from memcache_kv.store.reclaimer import Reclaimer
from memcache_kv.store.time import Time
from memcache_kv.unpatched import socket
from memcache_kv.version import VERSION

if TYPE_CHECKING:
    from memcache_kv.commands.discovery import Cluster
    from memcache_kv.journal import Compactor, Journal
    from memcache_kv.journal.lifecycle import JournalLifecycle
    from memcache_kv.observe.audit import AuditLog
    from memcache_kv.observe.operation_log import OperationLog
    from memcache_kv.observe.rotated_file import RotatedFile
    from memcache_kv.protocol.dialect import Dialect
    from memcache_kv.server.activation import Inherited
    from memcache_kv.server.admin import AdminServer
    from memcache_kv.server.discovery import ClusterFile
    from memcache_kv.server.memory_file import MemoryFile
    from memcache_kv.server.preload import Preload
    from memcache_kv.server.tls import Tls
    from memcache_kv.server.udp import UdpServer

THREADS_WITHOUT_GIL = 2


class Reloaded(Protocol):
    """Something that is read from files."""

    def reload(self) -> None:
        """Read them again. Raises ConfigError if one can't be used."""


class ServerRun:
    """A server with its store, journal, workers and listeners.

    settings: what to serve and how; clock, log: replaced by tests and by programs that embed the server. Raises
    ConfigError if the users file or the certificates can't be used. The server's own log is written by a thread from
    `start` to `stop`; a given one is used as it is.

    One thread calls `start`, waits for `stopping`, and calls `stop`; each is called once and blocks until done.
    `stopping` is set by the command `shutdown`, by a signal, and if an exception ends one of the server's threads.
    `failure` says afterwards what went wrong.

    inherited: sockets that another process has bound; `settings` comes from `take_sockets` then.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Time | None = None,
        log: Log | None = None,
        inherited: Inherited | None = None,
    ) -> None:
        self.settings = settings
        self._inherited = inherited
        self._inherited_streams = {} if inherited is None else inherited.streams
        self.clock: Time = clock if clock is not None else Clock()
        self.log = log if log is not None else make_log(settings)
        self._owns_log = log is None
        self._log_file: RotatedFile | None = None
        self.on_loading: Callable[[int, int], None] = lambda done, total: None
        """Called while `start` loads data, with how much is done and how much there is, in the same unit."""
        self.on_saving: Callable[[], None] = lambda: None
        """Called now and then while `stop` saves items."""
        self.store = item_store(settings, self.clock)
        self.watchers = Watchers(self.clock, settings.extended.watcher_logbuf_size, sizes=self.store.sizes)
        prefixes = Prefixes(settings.stats_delimiter, settings.detail_enabled)
        self.observers = Observers(self.log, prefixes, self.watchers)
        self._logins = Logins(Users(settings.auth_file)) if settings.auth_file is not None else None
        self.stopping = StopRequest()
        self.watchers.follow(self._streams_changed)
        self.totals = ConnectionTotals(settings.conn_limit)
        has_half_open = settings.enable_ssl or settings.auth_file is not None
        self._addresses = AddressLimits(settings.conn_limit, settings.max_connections_per_address, has_half_open)
        self.connection_memory = ConnectionMemory(settings.connection_memory_bytes)
        self._listener_options = ListenerOptions(
            self.totals, self._addresses, self._hand_over, self.log, settings.backlog, not settings.maxconns_fast
        )
        self.reclaimer = Reclaimer(self.store)
        self.crawler = Crawler(self.store, settings.lru_crawler, settings.crawler_sleep_us, settings.crawler_tocrawl)
        self.memory_watch = MemoryWatch(self.store)
        self.udp_listeners: list[UdpServer] = []
        self.workers: list[Worker] = []
        self._threads = settings.threads or default_threads()
        self._all_counters: list[Counters] = []
        self._latencies: list[Latency] = []
        self._fault: ThreadDied | JournalFailed | None = None
        self._audit: AuditLog | None = None
        self._operations: OperationLog | None = None
        self.condition = Condition(self.workers, settings.ready_needs_journal, lambda: self._fault is not None)
        try:
            self._load_parts()
            self._binding = Binding(settings, self._listener_options, self.log, self.tls, self._inherited_streams)
        except BaseException:
            self.stopping.close()
            raise
        self.listeners = self._binding.listeners
        for path in (settings.auth_file, settings.admin_token_file, settings.tls.ssl_key):
            if path is not None:
                process.warn_of_readers(Path(path), self.log)

    def _load_parts(self) -> None:
        """Import what only some settings need, which would otherwise slow down every start.

        This happens before the switch to the user of -u, who may not be able to read the code.
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
        self._audit_log: type[AuditLog] | None = None
        if settings.audit_log is not None:
            from memcache_kv.observe.audit import AuditLog

            self._audit_log = AuditLog
        self._operation_log: type[OperationLog] | None = None
        if settings.operation_log is not None:
            from memcache_kv.observe.operation_log import OperationLog

            self._operation_log = OperationLog
        self._dialects: list[tuple[Dialect, tuple[str, ...]]] = [*dialects_of(settings)]
        """The protocols with listeners of their own, and the addresses of these."""
        self._admin: AdminServer | None = None
        if settings.admin_listen:
            self._load_admin()
        self._cluster: Cluster | None = None
        self._cluster_file: ClusterFile | None = None
        if settings.cluster_node or settings.cluster_file is not None:
            self._load_discovery()
        self._preload: Preload | None = None
        if settings.preload:
            from memcache_kv.server.preload import Preload

            self._preload = Preload(settings, self.store, self.log, self.stopping.wait_for_input, self._check_loading)
        self._memory_file: MemoryFile | None = None
        if settings.memory_file is not None and settings.journal is None:
            from memcache_kv.server.memory_file import MemoryFile

            self._memory_file = MemoryFile(
                settings.memory_file, self.store, self.log, self._check_loading, lambda: self.on_saving()
            )
        self._lifecycle: JournalLifecycle | None = None
        if settings.journal is not None:
            from memcache_kv.journal.lifecycle import JournalLifecycle

            self._lifecycle = JournalLifecycle(
                settings.journal,
                settings,
                self.store,
                self.log,
                self._check_loading,
                self._thread_died,
                None if self._preload is None else self._preload.fill_journal,
            )

    def _load_admin(self) -> None:
        with needs_h11("--admin-listen"):
            from memcache_kv.server.admin import AdminServer
        tls = None
        if self.settings.admin_tls:
            from memcache_kv.server.tls import Tls

            tls = self.tls or Tls(self.settings.tls)
        parts = self.condition, self.store, self.crawler, self.log, tls
        self._admin = AdminServer(self.settings, *parts, self._inherited_streams)

    def _load_discovery(self) -> None:
        from memcache_kv.config.cluster import parse_nodes
        from memcache_kv.server.discovery import ClusterFile, cluster_of

        given = self.settings.cluster_node
        self._cluster = cluster_of(parse_nodes(given) if given else (), self.clock.now, self.log)
        if self.settings.cluster_file is not None:
            self._cluster_file = ClusterFile(self.settings.cluster_file, self._cluster, self.log)

    @property
    def journal(self) -> Journal | None:
        """The journal; None without one, and before `start` has opened it."""
        return None if self._lifecycle is None else self._lifecycle.journal

    @property
    def compactor(self) -> Compactor | None:
        """The thread that rewrites the journal; None without a journal, and before `start`."""
        return None if self._lifecycle is None else self._lifecycle.compactor

    @property
    def failure(self) -> ThreadDied | JournalFailed | None:
        """What went wrong: an exception ended a thread, or the journal could not be written. None if nothing did."""
        if self._fault is not None:
            return self._fault
        return None if self._lifecycle is None else self._lifecycle.failure

    @property
    def addresses(self) -> list[str]:
        """The addresses with memcached's protocols, each HOST:PORT or the path of a unix socket."""
        return self.addresses_of(None)

    def addresses_of(self, dialect: str | None) -> list[str]:
        """Return the addresses of the listeners of a dialect, by its name; None means memcached's protocols."""
        listeners = [*self.listeners, *self._admin_listeners()]
        return [each.address for each in listeners if (each.dialect and each.dialect.name) == dialect]

    @property
    def port(self) -> int:
        """The first TCP port with memcached's protocols; 0 if there is none."""
        return self._binding.port

    def start(self) -> None:
        """Recover the items from the journal, start the threads and listen.

        Raises JournalError, ListenError, StoppedEarly if `stopping` is set before this is done, and ConfigError if the
        audit log can't be opened.
        """
        try:
            self._open_logs()
            if self._cluster_file is not None:
                self._cluster_file.reload()
            self._binding.bind(self._dialects)  # first: if its port is in use, a server does not touch the journal
            process.protect(self._open_to_strangers(), self.settings.protected, self.log)
            if self._admin is not None:  # before the items are loaded, which may take long
                self._admin.start(self._thread_died)
            self._load_items()
            self._warn_of_memory()
            self._bind_udp()
            for server in self.listeners:
                server.activate()
        except BaseException:
            self.condition.phase = Phase.STOPPING
            self._close_listeners()
            if self._lifecycle is not None:
                self._lifecycle.close()
            if self._memory_file is not None:
                self._memory_file.close()
            self._close_request_logs()
            if self._admin is not None:
                self._admin.stop()
            self.stopping.close()
            raise
        if self._owns_log:
            self.log.start_queue(self._thread_died)
        if self._operations is not None:
            self._start_operation_log(self._operations)
        self._start_workers()
        for thread in (self.crawler, self.reclaimer, self.memory_watch):
            thread.on_fault = self._thread_died
            thread.start()
        if self.compactor is not None:
            self.compactor.start()
        if self._cluster_file is not None:
            self._cluster_file.on_fault = self._thread_died
            self._cluster_file.start()
        self.condition.reported = self._new_context()
        self.condition.phase = Phase.SERVING  # before the first reply: who has one can ask for the pages, too
        for listener in self._all_listeners():
            listener.on_fault = self._thread_died
            listener.start()
        if self.settings.port_file is not None:
            process.write_ports(self.settings.port_file, self._port_lines(), self.log)
        self.log.say(f"memcache_kv {VERSION} ({FLAVOR})")
        self.log.say(self._limits_in_words())
        others = [f"{address} ({each.name})" for each, _ in self._dialects for address in self.addresses_of(each.name)]
        self.log.say(f"listening on {', '.join([*self.addresses, *others])}")

    def reload(self) -> None:
        """Read the users file, the certificates and the cluster's nodes again.

        If one can't be used, log that and keep the old ones. Open the log file, the audit log and the operation log
        again too, as logrotate expects.
        """
        if self._log_file is not None:
            self._log_file.reopen()
        if self._audit is not None:
            self._audit.reopen()
        if self._operations is not None:
            self._operations.reopen()
        for what, part in self._reloaded():
            try:
                part.reload()
                self.log.event(f"read the {what} again")
            except ConfigError as error:
                self.log.say(f"{error}; the old {what} stay in use: mend the file and send SIGHUP again", Level.WARNING)

    def catch_up(self) -> None:
        """Carry out what is due by the clock: a flush that waits, the removal of expired items. For a moved clock.

        Blocks until the memory of these items is free. Any thread may call this.
        """
        self.clock.tick()
        self.store.new_second()
        self.crawler.finish()
        while self.store.free_some():
            pass

    def stop_soon(self, is_graceful: bool) -> None:
        """Stop after the time of --drain-seconds; at once if that has begun already, or not all is loaded yet.

        is_graceful: whether the items are to be saved where --memory-file says.
        For a signal handler of the main thread, which waits for `stopping` until `condition.drain_seconds_left` is 0.
        """
        seconds = self.settings.drain_seconds
        if seconds and self.condition.phase is Phase.SERVING:
            self.stopping.is_graceful = is_graceful
            self.condition.drain(seconds)
        else:
            self.stopping.set(is_graceful)

    def stop(self) -> None:
        """Stop accepting, send the replies that are ready, close the connections, and write and sync the journal."""
        self.stopping.set()
        self.condition.phase = Phase.STOPPING
        for listener in self._all_listeners():
            listener.stop()
        for worker in self.workers:
            worker.stop()
        for worker in self.workers:
            worker.join()
        if self._logins is not None:
            self._logins.checks.stop()
        self.crawler.stop()
        self.reclaimer.stop()
        self.memory_watch.stop()
        if self._cluster_file is not None:
            self._cluster_file.stop()
        if self.compactor is not None:
            self.compactor.stop()
        if self._lifecycle is not None:
            self._lifecycle.close()
        if self._memory_file is not None:
            self._save_items(self._memory_file)
        for worker in self.workers:
            worker.close()  # last, as the journal's thread wakes the workers
        self._close_request_logs()
        if self._admin is not None:
            self._admin.stop()
        self.stopping.close()
        if self._owns_log:
            self.log.stop_queue()
        if self._log_file is not None:
            self._log_file.close()

    def forget(self) -> None:
        """Close the sockets and the journal's lock in a child that was forked, so that they are the parent's alone.

        Nothing is sent, written or waited for: the child has none of the threads, and they may have held locks.
        """
        for listener in [*self._all_listeners(), *self._admin_listeners()]:
            listener.server_close()
        for worker in self.workers:
            worker.forget()
        if self._lifecycle is not None:
            self._lifecycle.forget()

    def fail(self, name: str, error: BaseException) -> None:
        """Stop the server, as an exception ended a thread on which it depends. Any thread may call this."""
        self._thread_died(name, error)

    # Parts

    def _open_logs(self) -> None:
        """Open the log file and the logs of requests, by the user of -u, who must be able to open them again."""
        settings = self.settings
        if self._owns_log:
            self._log_file = open_log_file(settings, self.log)
        if self._audit_log is not None and settings.audit_log is not None:
            self._audit = self._audit_log(settings.audit_log, self.log)
        if self._operation_log is not None and settings.operation_log is not None:
            self._operations = self._operation_log(settings.operation_log, self.log)

    def _reloaded(self) -> Iterator[tuple[str, Reloaded]]:
        """Yield what is read from files again, and its name."""
        if self._logins is not None:
            yield "users", self._logins.users
        if self.tls is not None:
            yield "certificates", self.tls
        if self._cluster_file is not None:
            yield "cluster's nodes", self._cluster_file
        if self._admin is not None and self._admin.tls is not None and self._admin.tls is not self.tls:
            yield "admin listener's certificates", self._admin.tls
        if self._admin is not None and self._admin.token is not None:
            yield "admin token", self._admin.token

    def _load_items(self) -> None:
        """Recover the journal or the items of --memory-file, and load the data files of --preload where there are none.

        Without either, data files are loaded at every start.
        """
        if self._lifecycle is None:
            was_saved = self._memory_file is not None and self._memory_file.load()
            if self._preload is not None and was_saved:
                self.log.say(f"{self._preload.names} was not loaded, as a graceful stop had saved the items")
            elif self._preload is not None:
                self._preload.fill_store()
            return
        self._lifecycle.open()
        if self._preload is None:
            return
        if self._lifecycle.is_new:
            self._preload.report_room(self._lifecycle.no_room)
        else:
            self.log.say(
                f"{self.settings.journal} holds a journal already, so {self._preload.names} was not loaded: "
                "`memcache-kv journal load` adds a file to the journal of a server that is stopped"
            )

    def _save_items(self, memory_file: MemoryFile) -> None:
        """Save the items if the stop was to be graceful, and if none of them may be wrong."""
        if self.stopping.is_graceful and self.failure is None:
            try:
                memory_file.save()
            except JournalFailed as error:
                self._fault = error
                self.log.say(str(error), Level.ERROR)
        memory_file.close()

    def _check_loading(self, done: int, total: int) -> None:
        """Keep within the memory limit while data is loaded, and report the progress. Raises StoppedEarly."""
        self.memory_watch.check_often()
        self.on_loading(done, total)
        if self.stopping.is_set():
            raise StoppedEarly("stopped while data was loaded")

    def _close_request_logs(self) -> None:
        if self._audit is not None:
            self._audit.close()
            self._audit = None
        if self._operations is not None:
            self._operations.stop()
            self._operations = None

    def _start_operation_log(self, operations: OperationLog) -> None:
        operations.start(self._thread_died)
        journal = self.journal
        if journal is not None:
            journal.watch(lambda: operations.saved(journal.synced))

    def _start_workers(self) -> None:
        for _ in range(self._threads):
            self.workers.append(Worker(self._new_context(), self._logins, self.tls, self._addresses))
        self._turns = itertools.cycle(self.workers)
        if self._logins is not None:
            self._logins.checks.thread.on_fault = self._thread_died
        for worker in self.workers:
            worker.on_fault = self._thread_died
            worker.start()

    def _thread_died(self, name: str, error: BaseException) -> None:
        """Log the exception that ended a thread, and request the stop of the server. Any thread may call this."""
        self.log.fatal(f"the thread {name!r} ended by a fault of the server", error, "it stops now")
        self._fault = self._fault or ThreadDied(f"the thread {name!r} ended by a fault of the server: {error!r}")
        self.stopping.set()

    def _warn_of_memory(self) -> None:
        """Say so where this server may need more memory than it can have: the system would kill it."""
        beside, bound = self.memory_watch.idle_bytes, machine.memory_bound()
        warning = memory_warning(self.settings, self._threads, beside, bound)
        if warning is not None:
            self.log.warn(warning)

    def _limits_in_words(self) -> str:
        settings = self.settings
        journal = "no journal" if settings.journal is None else f"journal {settings.journal}, fsync {settings.fsync}"
        return (
            f"limits: {settings.memory_limit >> 20} MB for items, {settings.max_item_size >> 10} KB for one, "
            f"{settings.conn_limit} connections; {journal}"
        )

    def _all_listeners(self) -> list[MemcacheServer | UdpServer]:
        return [*self.listeners, *self.udp_listeners]

    def _admin_listeners(self) -> list[MemcacheServer]:
        return [] if self._admin is None else self._admin.listeners

    def _port_lines(self) -> Iterable[str]:
        """Yield a line for each port, like memcached: `TCP INET: 11211`."""
        for listener in [*self._all_listeners(), *self._admin_listeners()]:
            if listener.address_family != socket.AF_UNIX:
                dialect = listener.dialect if isinstance(listener, MemcacheServer) else None
                what = listener.transport if dialect is None else dialect.name.upper()
                family = "INET6" if listener.address_family == socket.AF_INET6 else "INET"
                yield f"{what} {family}: {listener.port}"

    def _bind_udp(self) -> None:
        """Listen for datagrams on the TCP addresses, except for those that require a client certificate.

        UDP has no TLS. -U accepts that, but datagrams must not bypass the check of certificates. Inherited UDP sockets
        are served with and without -U.
        """
        if self._inherited is not None and self._inherited.datagrams:
            from memcache_kv.server.activation import InheritedUdpServer

            for sock in self._inherited.datagrams:
                self.udp_listeners.append(InheritedUdpServer(sock, self._new_context()))
        if self._udp_server is None:
            return
        if self.tls is not None:
            self.log.warn("UDP is not encrypted, and not answered where a client's certificate is required")
        hosts = {}  # one UDP socket for all TCP ports of a host
        for listener in self.listeners:
            if listener.dialect is not None or not listener.port:
                continue
            if not (listener.tls_listener and listener.tls_listener.requires_certificate):
                hosts[listener.server_address[0]] = listener.address_family
        taken = [listener.server_address for listener in self.udp_listeners]
        for host, family in hosts.items():
            if (host, self.settings.udp_port) in [(address[0], address[1]) for address in taken]:
                continue
            self.udp_listeners.append(self._udp_server((host, self.settings.udp_port), family, self._new_context()))

    def _new_context(self) -> Context:
        """Make the context of a worker or UDP listener, with counters of its own."""
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
            latencies=self._latencies,
            totals=self.totals,
            connection_memory=self.connection_memory,
            crawler=self.crawler,
            journal=self.journal,
            compactor=self.compactor,
            connections=self._connections,
            stop=self.stopping.set,
            tcp_port=self.port,
            threads=self._threads,
        )
        if self._lifecycle is not None:
            context.recovered_records = self._lifecycle.recovered_records
            context.recovered_bytes = self._lifecycle.recovered_bytes
            context.recovered_seconds = self._lifecycle.recovered_seconds
        context.tls = self.tls
        context.cluster = self._cluster
        context.audit = self._audit
        context.operations = self._operations
        return context

    def _streams_changed(self) -> None:
        """Report evictions to the watchers while somebody watches them."""
        if self.watchers.is_watched(Stream.EVICTIONS):
            self.store.watch_evictions(self._evicted)
        else:
            self.store.watch_evictions(None)

    def _evicted(self, key: bytes, entry: Entry, was_read: bool) -> None:
        self.watchers.evicted(key, entry, self.store.accessed_at(entry), was_read)

    def _hand_over(self, sock: socket.socket, listener_class: CommandClass | None, dialect: Dialect | None) -> None:
        next(self._turns).adopt(sock, listener_class, dialect)

    def _connections(self, asking: int) -> Iterable[ConnectionStatus]:
        for listener in self._all_listeners():
            yield listener.status()
        for worker in self.workers:
            yield from worker.statuses(asking)

    def _open_to_strangers(self) -> list[str]:
        """Return the addresses beyond loopback whose clients need neither a login nor a certificate."""
        datagrams = [] if self._inherited is None else self._inherited.datagrams
        names = [sock.getsockname() for sock in datagrams]
        return [f"{MemcacheServer.describe(name)} (UDP)" for name in names if not is_local(name)] + [
            listener.address
            for listener in self.listeners
            if not is_local(listener.server_address)
            and not (listener.tls_listener and listener.tls_listener.requires_certificate)
            and not (self._logins is not None and listener.asks_for_login)
        ]

    def _close_listeners(self) -> None:
        for listener in self._all_listeners():
            listener.server_close()
            if isinstance(listener, UnixMemcacheServer):
                listener.remove_file()


def default_threads() -> int:
    """Return the default number of workers: 1 under the GIL, where more would be slower, and otherwise 2."""
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    return 1 if has_gil else min(THREADS_WITHOUT_GIL, os.cpu_count() or 1)
