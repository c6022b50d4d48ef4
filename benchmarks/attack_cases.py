"""What one hostile client does to a server: the attacks by name, and the process that carries one out.

Run as its own process: python -m benchmarks.attack_cases PORT NAME [--quick] [--tls]

It prepares the attack and says `ready`; carries it out with the next line on its standard input and says `done`; and
keeps its connections until its standard input ends.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.bystander import ask, connect
from benchmarks.durability_load import ANSWER_SECONDS, HOST, STANDARD_INPUT
from benchmarks.fill import AT_ONCE, set_forms

NICENESS = 10
"""It shares a core with the client whose latencies are measured, and is not to delay that."""
MARK, MARKED = b"mn\r\n", b"MN\r\n"
"""What is asked last, and the end of all replies."""
BINARY_HEAD = ">BBHBBHIIQ"
NOOP, STAT, OPAQUE = 0x0A, 0x10, 0x6E6F6F70
PREFIXES = 65_536
IDLE_CONNECTIONS = 900
GUESSES = 8
"""Logins of the burst, with a name whose password is hashed."""
HASHED_NAME = "hashed"


@dataclass(frozen=True)
class Size:
    """How much is attacked."""

    items: int
    seconds: float
    """Of an attack that goes on and on, and of a load."""


FULL = Size(items=1_000_000, seconds=4)
QUICK = Size(items=200_000, seconds=1.5)


@dataclass(frozen=True)
class Target:
    """The server that is attacked."""

    port: int
    size: Size
    tls: bool = False

    def connect(self) -> socket.socket:
        """Open one more connection."""
        return connect(self.port, self.tls)

    def connections(self, count: int) -> list[socket.socket]:
        """Open many connections, each of them served once."""
        opened = [self.connect() for _ in range(count)]
        for connection in opened:
            ask(connection, MARK, MARKED)
        return opened


Steps = Iterator[None]
"""Prepares until its first step, then attacks."""


@dataclass(frozen=True)
class Attack:
    """One attack: what is said of it, the server's circumstances, and what the client does."""

    what: str
    act: Callable[[Target], Steps]
    has_items: bool = False
    """Whether the server has many items before."""
    memory: int = 1024
    """Of the server's items, in megabytes; 64 are full of the items that it has before."""
    flags: tuple[str, ...] = ()
    tls: bool = False
    logins: bool = False
    """Whether it needs hashed passwords, which memcached does not have."""
    is_observed: bool = False
    """Whether the throughput of others is measured instead of what they wait."""


def binary(opcode: int, key: bytes = b"") -> bytes:
    """Spell a request of the binary protocol."""
    return struct.pack(BINARY_HEAD, 0x80, opcode, len(key), 0, 0, 0, len(key), OPAQUE, 0) + key


BINARY_MARK = binary(NOOP)
BINARY_MARKED = struct.pack(BINARY_HEAD, 0x81, NOOP, 0, 0, 0, 0, 0, OPAQUE, 0)


def _nothing(target: Target) -> Steps:
    yield
    time.sleep(target.size.seconds)


def _text(request: bytes, times: int = 1, before: bytes = b"") -> Callable[[Target], Steps]:
    """Send one request many times at once, and read all replies."""

    def act(target: Target) -> Steps:
        connection = target.connect()
        ask(connection, before + MARK, MARKED)
        yield
        ask(connection, request * times + MARK, MARKED)

    return act


def _binary_stats(key: bytes, times: int) -> Callable[[Target], Steps]:
    def act(target: Target) -> Steps:
        if key.startswith(b"detail"):
            _count_prefixes(target)
        connection = target.connect()
        yield
        ask(connection, binary(STAT, key) * times + BINARY_MARK, BINARY_MARKED)

    return act


def _count_prefixes(target: Target) -> None:
    with target.connect() as connection:
        ask(connection, b"stats detail on\r\n", b"OK\r\n")
        sets = [b"set prefix%d:key 0 0 1 noreply\r\nx\r\n" % number for number in range(PREFIXES)]
        for first in range(0, PREFIXES, AT_ONCE):
            ask(connection, b"".join(sets[first : first + AT_ONCE]) + MARK, MARKED)
        ask(connection, b"stats detail off\r\n", b"OK\r\n")


def _stats_conns(target: Target) -> Steps:
    idle = target.connections(IDLE_CONNECTIONS)
    connection = target.connect()
    yield
    ask(connection, b"stats conns\r\n" * 1000 + MARK, MARKED)
    yield
    del idle


def _unread(target: Target) -> Steps:
    """Ask for much on many connections, and read none of it."""
    with target.connect() as connection:
        ask(connection, b"set k 0 0 4096\r\n%b\r\n" % (b"x" * 4096), b"STORED\r\n")
    opened = target.connections(1000)
    yield
    _send_to_each(opened, b"get k\r\n" * 1000)
    time.sleep(target.size.seconds)
    yield
    del opened


def _send_to_each(connections: Sequence[socket.socket], data: bytes) -> None:
    """Send; what the server closed, or does not take in time, is left at that."""
    for connection in connections:
        connection.settimeout(0.2)
        with contextlib.suppress(OSError):
            connection.sendall(data)


def _long_line(target: Target) -> Steps:
    opened = target.connections(20)
    yield
    _send_to_each(opened, b"get " + b"k " * 900_000)
    end = time.monotonic() + target.size.seconds
    while time.monotonic() < end:
        _send_to_each(opened, b"k")
    yield
    del opened


def _half_sets(target: Target) -> Steps:
    opened = target.connections(150)
    yield
    for connection in opened:
        _send_to_each([connection], b"set half 0 0 1000000\r\n" + b"x" * 500_000)
    time.sleep(target.size.seconds)
    yield
    del opened


def _crawls(target: Target) -> Steps:
    """Crawl again and again. Now and then memcached answers no more on a connection; then take another one."""
    with target.connect() as connection:
        ask(connection, b"lru_crawler sleep 0\r\n", b"OK\r\n")
    yield
    end = time.monotonic() + target.size.seconds
    while time.monotonic() < end:
        with target.connect() as connection, contextlib.suppress(TimeoutError):
            connection.settimeout(0.5)
            while time.monotonic() < end:
                ask(connection, b"lru_crawler crawl all\r\n" + MARK, MARKED)


def _handshakes(target: Target) -> Steps:
    """Begin handshakes with a greeting made once: it costs this side nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    written = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), written).do_handshake()
    greeting = written.read()
    yield
    end = time.monotonic() + target.size.seconds
    while time.monotonic() < end:
        opened = [socket.create_connection((HOST, target.port), ANSWER_SECONDS) for _ in range(20)]
        for connection in opened:
            connection.sendall(greeting)
        for connection in opened:
            with contextlib.suppress(OSError):
                connection.recv(1 << 14)
            connection.close()


def _login_burst(target: Target) -> Steps:
    opened = [target.connect() for _ in range(GUESSES)]
    yield
    login = f"{HASHED_NAME} wrong".encode()
    _send_to_each(opened, b"set login 0 0 %d\r\n%b\r\n" % (len(login), login))
    time.sleep(target.size.seconds)
    yield
    del opened


def _storm(target: Target) -> Steps:
    """Store values that displace thousands of items each."""
    connection = target.connect()
    yield
    for number in range(200):
        ask(connection, b"set storm%d 0 0 500000 noreply\r\n%b\r\n" % (number, b"x" * 500_000) + MARK, MARKED)


def _access_metadata(target: Target) -> Steps:
    """Ask once for what memcached keeps of each item anyway, and store the items again."""
    connection, watcher = target.connect(), target.connect()
    yield
    ask(connection, b"mg x h l t\r\nme x\r\n" + MARK, MARKED)
    ask(watcher, b"watch evictions\r\n", b"OK\r\n")
    watcher.close()
    forms = list(set_forms(target.size.items, 35, 0))
    for first in range(0, len(forms), AT_ONCE):
        ask(connection, b"".join(forms[first : first + AT_ONCE]) + MARK, MARKED)


def _turned_on(line: bytes) -> Callable[[Target], Steps]:
    def act(target: Target) -> Steps:
        yield
        with target.connect() as connection:
            ask(connection, line + b"\r\n", b"OK\r\n")

    return act


def _watchers(kind: bytes, count: int) -> Callable[[Target], Steps]:
    def act(target: Target) -> Steps:
        yield
        opened = [target.connect() for _ in range(count)]
        for connection in opened:
            ask(connection, b"watch " + kind + b"\r\n", b"OK\r\n")
        threading.Thread(target=_read_all, args=(opened,), daemon=True).start()
        yield
        del opened

    return act


def _read_all(connections: Sequence[socket.socket]) -> None:
    open_ones = list(connections)
    while open_ones:
        for connection in select.select(open_ones, [], [])[0]:
            if not connection.recv(1 << 18):
                open_ones.remove(connection)


MANY = ("-c", "2000")
ATTACKS = {
    "nothing": Attack("nothing, to compare with", _nothing, has_items=True),
    "stat-items": Attack("binary `stat items`, 10 times", _binary_stats(b"items", 10), has_items=True),
    "memlimit": Attack(
        "`cache_memlimit 8`, then one `set`",
        _text(b"cache_memlimit 8\r\nset one 0 0 1\r\nx\r\n"), has_items=True),
    "append": Attack(
        "`append` of 1 byte to 900 KB, 700 times",
        _text(b"append v 0 0 1\r\nx\r\n", 700, b"set v 0 0 900000 noreply\r\n%b\r\n" % (b"x" * 900_000))),
    "incr": Attack(
        "`incr` of a number of 1 MB, 1,000 times",
        _text(b"incr v 1\r\n", 1000, b"set v 0 0 1000000 noreply\r\n%b\r\n" % (b"1" * 1_000_000))),
    "stats-conns": Attack("`stats conns`, 1,000 times with 900 idle connections", _stats_conns),
    "detail-dump": Attack("binary `stat detail dump`, 50 times, 65,536 prefixes", _binary_stats(b"detail dump", 50)),
    "refresh-certs": Attack("`refresh_certs`, 1,000 times", _text(b"refresh_certs\r\n", 1000), tls=True),
    "unread": Attack("1,000 `get` of 4 KB on 1,000 connections, not read", _unread, memory=64, flags=MANY),
    "long-line": Attack("1.8 MB of a `get` line on 20 connections, then single bytes", _long_line),
    "half-sets": Attack("150 half-sent sets of 1 MB, full cache", _half_sets, has_items=True, memory=64),
    "access-metadata": Attack(
        "`mg x h l t`, `me x`, `watch evictions` once, full cache", _access_metadata, has_items=True, memory=64),
    "logins": Attack("8 logins with a hashed password", _login_burst, logins=True),
    "crawls": Attack("`lru_crawler sleep 0`, `crawl all` in a loop", _crawls, has_items=True),
    "handshakes": Attack("flood of TLS handshakes", _handshakes, tls=True),
    "flush": Attack("`flush_all`", _text(b"flush_all\r\n"), has_items=True),
    "storm": Attack("200 sets of 500 KB, full cache", _storm, has_items=True, memory=64),
    "stats-detail": Attack("`stats detail on`", _turned_on(b"stats detail on"), is_observed=True),
    "watcher": Attack("`watch fetchers`", _watchers(b"fetchers", 1), is_observed=True),
    "watchers": Attack("20 of `watch fetchers`", _watchers(b"fetchers", 20), is_observed=True),
    "verbosity": Attack("`verbosity 2`", _turned_on(b"verbosity 2"), is_observed=True),
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Attack as told by standard input; return the exit status."""
    parser = argparse.ArgumentParser(prog="attack_cases.py", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("name", choices=ATTACKS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args(arguments)
    os.nice(NICENESS)
    try:
        steps = ATTACKS[options.name].act(Target(options.port, QUICK if options.quick else FULL, options.tls))
        for said in ("ready", "done"):
            next(steps, None)
            print(said, flush=True)
            os.read(STANDARD_INPUT, 100)
    except OSError as error:
        print(f"the attack broke off: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
