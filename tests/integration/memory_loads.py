"""The loads that take the most memory of a server: what clients do, and with which flags the server runs meanwhile."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from tests.certificates import Certificates, ask

MEGABYTE = 1 << 20
BLOCK = random.Random(1).randbytes(MEGABYTE)
TEXT = bytes(32 + byte % 90 for byte in BLOCK)
"""What the journal writes as it is; it writes BLOCK in base64."""
ANSWER_SECONDS = 120.0
HOLD_SECONDS = 1.0
"""How long attackers keep what they have done."""
AT_ONCE = 500
FILLED = 1.2
"""How much is stored to fill a server, as a part of its limit."""


@dataclass(frozen=True)
class Target:
    """The server under load."""

    port: int
    limit_megabytes: int
    certificates: Certificates | None = None
    other_port: int = 0
    """That of a second listener: HTTP, the line protocol, or UDP."""

    @property
    def limit_bytes(self) -> int:
        """The server's -m."""
        return self.limit_megabytes * MEGABYTE

    def at(self, port: int) -> Target:
        """The same at another port."""
        return replace(self, port=port)

    def connect(self, port: int = 0) -> socket.socket:
        """Open a connection."""
        if self.certificates is not None:
            return self.certificates.connect(self.port, self.certificates.context())
        return socket.create_connection(("127.0.0.1", port or self.port), timeout=ANSWER_SECONDS)


@dataclass(frozen=True)
class Load:
    """One load."""

    act: Callable[[Target], None]
    flags: tuple[str, ...] = ()
    fsync: str = ""
    """The policy of the journal; without one, there is none."""
    is_slow: bool = False
    """Whether the journal is on a slow device."""
    has_tls: bool = False
    other: str = ""
    """The flag of the second listener."""
    restarts: bool = False
    """Whether the server is started again on the journal afterwards."""


def sets(keys: Sequence[bytes], value: bytes) -> bytes:
    """Silent sets of one value."""
    tail = b" 0 0 %d noreply\r\n%b\r\n" % (len(value), value)
    return b"".join([b"set %b%b" % (key, tail) for key in keys])


def fill(client: socket.socket, target: Target, size: int, name: bytes = b"k", part: float = FILLED) -> int:
    """Store values of this size until they are this part of the limit; return how many they are."""
    count = int(part * target.limit_bytes / (size + 60 + len(name)))
    step = max(1, min(AT_ONCE, 4 * MEGABYTE // size))
    for start in range(0, count, step):
        keys = [b"%b%d" % (name, number) for number in range(start, min(count, start + step))]
        ask(client, sets(keys, TEXT[:size]) + b"mn\r\n")
    return count


def _filled(size: int, part: float = 3.0) -> Callable[[Target], None]:
    def act(target: Target) -> None:
        with target.connect() as client:
            fill(client, target, size, part=part)

    return act


# Values whose sizes change


def _grow(target: Target) -> None:
    with target.connect() as client:
        for number in range(30):
            fill(client, target, int(100 * 100 ** (number / 29)), b"key", part=1.1)


def _grow_in_place(target: Target) -> None:
    """Overwrite the same keys with values that are a little longer each time."""
    count = target.limit_bytes // 1200
    keys = [b"key%d" % number for number in range(count)]
    with target.connect() as client:
        for size in range(100, 1100, 60):
            for start in range(0, count, AT_ONCE):
                ask(client, sets(keys[start : start + AT_ONCE], TEXT[:size]) + b"mn\r\n")


def _churn(target: Target) -> None:
    """Sizes of all kinds under keys that never come again."""
    rnd = random.Random(5)
    with target.connect() as client:
        sent, number = 0, 0
        while sent < 4 * target.limit_bytes:
            batch = b"".join(_mixed(rnd, number))
            number += 1
            sent += len(batch)
            ask(client, batch + b"mn\r\n")


def _mixed(rnd: random.Random, number: int) -> Iterator[bytes]:
    left = MEGABYTE
    while left > 0:
        length = int(10 ** rnd.uniform(0, 5.9))
        yield b"set %d:%d 0 0 %d noreply\r\n%b\r\n" % (number, left, length, BLOCK[:length])
        left -= length + 60


def _sizes_in_turn(target: Target) -> None:
    with target.connect() as client:
        for turn, size in enumerate((50, 3000, 400, 30_000, 900, 9000, 100, 500_000, 60)):
            fill(client, target, size, b"turn%d-" % turn, part=1.5)


def _flush_and_fill(target: Target) -> None:
    with target.connect() as client:
        for number in range(6):
            fill(client, target, 300 * (1 + number % 3), b"run%d" % number)
            ask(client, b"flush_all\r\n", b"OK\r\n")


# The journal


def _together(target: Target, count: int, talk: Callable[[socket.socket, int], None]) -> None:
    """Let many clients talk at the same time. A client that the server closed is done."""

    def run(number: int) -> None:
        with contextlib.suppress(OSError, AssertionError), target.connect() as client:
            talk(client, number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _large_by_many(clients: int, each: int, value: bytes) -> Callable[[Target], None]:
    def talk(client: socket.socket, number: int) -> None:
        for turn in range(each):
            ask(client, b"set c%d-%d 0 0 %d\r\n%b\r\n" % (number, turn % 2, len(value), value), b"\r\n")

    return lambda target: _together(target, clients, talk)


def _small_by_many(clients: int, each: int) -> Callable[[Target], None]:
    def talk(client: socket.socket, number: int) -> None:
        for turn in range(each):
            keys = [b"c%d-%d-%d" % (number, turn, index) for index in range(AT_ONCE)]
            ask(client, sets(keys, TEXT[:100]) + b"mn\r\n")

    return lambda target: _together(target, clients, talk)


def _burst(value: bytes, part: float = 2.5) -> Callable[[Target], None]:
    def act(target: Target) -> None:
        count = int(part * target.limit_bytes / (len(value) + 60))
        step = max(1, min(AT_ONCE, 8 * MEGABYTE // len(value)))
        with target.connect() as client:
            for start in range(0, count, step):
                ask(client, sets([b"k%d" % number for number in range(start, start + step)], value) + b"mn\r\n")

    return act


def _rewrite_meanwhile(size: int) -> Callable[[Target], None]:
    def act(target: Target) -> None:
        with target.connect() as client:
            fill(client, target, size)
            for number in range(4):
                client.sendall(b"journal compact\r\n")
                client.recv(100)
                fill(client, target, size, b"again%d" % number, part=0.6)

    return act


# Connections that keep much


def _send_to_all(target: Target, count: int, data: bytes, opened: ExitStack, port: int = 0) -> list[socket.socket]:
    """Open connections and send as much of this on each as the server takes."""
    clients = [opened.enter_context(target.connect(port)) for _ in range(count)]
    for client in clients:
        client.setblocking(False)
    unsent, stalled_since = dict.fromkeys(clients, 0), time.monotonic()
    while unsent and time.monotonic() - stalled_since < HOLD_SECONDS:
        for client in list(unsent):
            try:
                sent = client.send(data[unsent[client] : unsent[client] + 256 * 1024])
            except (BlockingIOError, OSError) as error:
                if not isinstance(error, BlockingIOError) and "want" not in str(error).lower():
                    del unsent[client]
                continue
            stalled_since = time.monotonic()
            unsent[client] += sent
            if unsent[client] == len(data):
                del unsent[client]
    return clients


def _kept(count: int, data: bytes, before: int = 1000, other: bool = False) -> Callable[[Target], None]:
    """Fill the server with values of a size, let many clients send this, and store more beside them."""

    def act(target: Target) -> None:
        with ExitStack() as opened, target.connect() as client:
            fill(client, target, before)
            _send_to_all(target, count, data, opened, target.other_port if other else 0)
            with contextlib.suppress(AssertionError, OSError):
                fill(client, target, before, b"later")
            time.sleep(HOLD_SECONDS)

    return act


def _unread_large(target: Target) -> None:
    """Ask for large values and read nothing, while these values are replaced."""
    with ExitStack() as opened, target.connect() as client:
        value = TEXT[: MEGABYTE - 2000]
        for turn in range(6):
            ask(client, b"".join(sets([b"k%d" % number], value) for number in range(32)) + b"mn\r\n")
            keys = b" ".join(b"k%d" % (number % 32) for number in range(64))
            _send_to_all(target, 60, b"get %b\r\n" % keys * 4, opened)
            ask(client, b"mn\r\n" if turn % 2 else b"flush_all\r\nmn\r\n")
        fill(client, target, 1000, b"later")


def _watchers(target: Target) -> None:
    with ExitStack() as opened, target.connect() as client:
        fill(client, target, 100)
        _send_to_all(target, 60, b"watch fetchers mutations evictions\r\n", opened)
        fill(client, target, 100, b"later", part=2)
        time.sleep(HOLD_SECONDS)


def _dumps(target: Target) -> None:
    with ExitStack() as opened, target.connect() as client:
        fill(client, target, 20)
        _send_to_all(target, 300, b"lru_crawler metadump all\r\n", opened)
        fill(client, target, 20, b"later", part=1)
        time.sleep(HOLD_SECONDS)


def _prefixes(target: Target) -> None:
    with ExitStack() as opened, target.connect() as client:
        ask(client, b"stats detail on\r\n", b"OK\r\n")
        for start in range(0, 80_000, AT_ONCE):
            keys = [b"%b%d:k" % (b"p" * 230, number) for number in range(start, start + AT_ONCE)]
            ask(client, sets(keys, b"v") + b"mn\r\n")
        _send_to_all(target, 300, b"stats detail dump\r\nstats items\r\nstats sizes\r\nstats conns\r\n" * 20, opened)
        fill(client, target, 1000, b"later")
        time.sleep(HOLD_SECONDS)


def _metadata(target: Target) -> None:
    """Have the access metadata of every item kept."""
    with target.connect() as client:
        count = fill(client, target, 60)
        for start in range(0, count, AT_ONCE):
            ask(client, b"".join(b"mg k%d h l t q\r\n" % n for n in range(start, start + AT_ONCE)) + b"mn\r\n")
        fill(client, target, 60, b"later")


def _datagrams(target: Target) -> None:
    with target.connect() as client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        fill(client, target, 1000)
        many = b"get " + b" ".join(b"k%d" % number for number in range(100)) + b"\r\n"
        for number in range(40_000):
            head = struct.pack(">HHHH", number & 0xFFFF, 0, 1, 0)
            sender.sendto(head + many, ("127.0.0.1", target.other_port))
            if number % 64 == 0:
                time.sleep(0.001)
        fill(client, target, 1000, b"later")


def _listings(target: Target) -> None:
    with ExitStack() as opened, target.connect() as client:
        fill(client, target, 50)
        request = b"GET /v1/kv?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        _send_to_all(target, 300, request * 50, opened, target.other_port)
        fill(client, target, 50, b"later")
        time.sleep(HOLD_SECONDS)


HALF_SET = b"set half 0 0 1000000\r\n" + BLOCK[:990_000]
HALF_PUT = b"PUT /half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n" + TEXT[:990_000]
HALF_PIPELINE = (
    b"POST /v1/pipeline HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 1000000\r\n\r\n[" + b'["set","k","v"],' * 60_000
)

LOADS: dict[str, Load] = {
    "small values": Load(_filled(10)),
    "values of a kilobyte": Load(_filled(1000)),
    "values of 100 KB": Load(_filled(100_000)),
    "values that grow from 100 B to 10 KB": Load(_grow),
    "values that grow in place": Load(_grow_in_place),
    "keys that never come again": Load(_churn),
    "sizes in turn": Load(_sizes_in_turn),
    "flushes": Load(_flush_and_fill),
    "burst, everysec": Load(_burst(TEXT[:1000]), fsync="everysec"),
    "burst of large values, everysec": Load(_burst(TEXT[:500_000], 6), fsync="everysec"),
    "burst of large binary values, never": Load(_burst(BLOCK[:1_000_000], 6), fsync="never"),
    "burst of large binary values, always": Load(_burst(BLOCK[:1_000_000], 3), fsync="always"),
    "burst of control characters, everysec": Load(_burst(bytes(100_000), 3), fsync="everysec"),
    "burst, slow disk, everysec": Load(_burst(TEXT[:1000], 1.2), fsync="everysec", is_slow=True),
    "burst, slow disk, always": Load(_burst(TEXT[:1000], 0.15), fsync="always", is_slow=True),
    "small sets by 300, slow disk, everysec": Load(_small_by_many(300, 3), fsync="everysec", is_slow=True),
    "small sets by 300, slow disk, always": Load(_small_by_many(300, 3), fsync="always", is_slow=True),
    "sets of 15 KB by 1,000, slow disk, everysec": Load(
        _large_by_many(1000, 4, BLOCK[:15_000]), fsync="everysec", is_slow=True
    ),
    "sets of 15 KB by 1,000, slow disk, always": Load(
        _large_by_many(1000, 3, BLOCK[:15_000]), fsync="always", is_slow=True
    ),
    "control characters by 1,000, slow disk, everysec": Load(
        _large_by_many(1000, 3, bytes(15_000)), fsync="everysec", is_slow=True
    ),
    "large values by 200, slow disk, everysec": Load(
        _large_by_many(200, 2, BLOCK[:1_000_000]), fsync="everysec", is_slow=True
    ),
    "large values by 200, slow disk, always": Load(
        _large_by_many(200, 2, BLOCK[:1_000_000]), fsync="always", is_slow=True
    ),
    "large values by 200, slow disk, never": Load(
        _large_by_many(200, 2, BLOCK[:1_000_000]), fsync="never", is_slow=True
    ),
    "large values by 200, always": Load(_large_by_many(200, 6, TEXT[:1_000_000]), fsync="always"),
    "rewrites of small items while writing": Load(_rewrite_meanwhile(10), fsync="everysec"),
    "rewrites of a kilobyte while writing": Load(_rewrite_meanwhile(1000), fsync="everysec"),
    "rewrites of 100 KB while writing": Load(_rewrite_meanwhile(100_000), fsync="everysec"),
    "growing values with a journal, then a start": Load(_grow, fsync="everysec", restarts=True),
    "sizes in turn with a journal, then a start": Load(_sizes_in_turn, fsync="never", restarts=True),
    "half sets by 1,000": Load(_kept(1000, HALF_SET)),
    "half sets by 1,000 with a journal": Load(_kept(1000, HALF_SET), fsync="everysec"),
    "half lines by 1,000": Load(_kept(1000, b"get " + b"k" * 200 + b" " + b"k1 " * 600_000)),
    "unread replies by 1,000": Load(_kept(1000, b"get k1 k2 k3 k4\r\n" * 2000, before=4000)),
    "unread large values": Load(_unread_large),
    "half sets by 300 over TLS": Load(_kept(300, HALF_SET), has_tls=True),
    "unread replies by 300 over TLS": Load(_kept(300, b"get k1 k2 k3 k4\r\n" * 2000, before=4000), has_tls=True),
    "watchers": Load(_watchers),
    "dumps": Load(_dumps),
    "prefixes and reports": Load(_prefixes),
    "access metadata": Load(_metadata),
    "datagrams": Load(_datagrams, other="-U"),
    "half bodies by 1,000 over HTTP": Load(_kept(1000, HALF_PUT, other=True), other="--http-listen"),
    "half pipelines by 300 over HTTP": Load(_kept(300, HALF_PIPELINE, other=True), other="--http-listen"),
    "listings over HTTP": Load(_listings, other="--http-listen"),
    "half lines by 1,000, line protocol": Load(
        _kept(1000, b"PUT half " + TEXT[:900_000].replace(b"\n", b" "), other=True), other="--line-listen"
    ),
}
