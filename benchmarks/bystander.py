"""Get one small item every millisecond, one request at a time; print how long that took, in ms, as JSON.

Run as its own process: python -m benchmarks.bystander PORT SERVER_PID [--tls] [--login NAME:PASSWORD]

It says `ready`, begins with the first line on its standard input, and ends with the next one. A wait is the server's
CPU time from request to reply, or the time by the clock if that is shorter: so what else the machine runs does not
count, and a server's threads beside its worker only count where they compete with it. The gets that would have been
due during a long wait count as well.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import os
import select
import socket
import ssl
import sys
import time
from collections.abc import Sequence

from benchmarks.durability_load import ANSWER_SECONDS, HOST, STANDARD_INPUT

PERIOD_SECONDS = 0.001
KEY = b"bystander"
STORE = b"set " + KEY + b" 0 0 5\r\nvalue\r\n"
GET = b"get " + KEY + b"\r\n"


def connect(port: int, tls: bool = False) -> socket.socket:
    """Connect without checking the server's certificate, which nobody signed."""
    plain = socket.create_connection((HOST, port), ANSWER_SECONDS)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not tls:
        return plain
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain)


def ask(connection: socket.socket, request: bytes, end: bytes) -> int:
    """Send a request, and receive until a reply ends so; return how many bytes came. Raises ConnectionError."""
    connection.sendall(request)
    buffer = memoryview(bytearray(1 << 18))
    tail, count = b"", 0
    while not tail.endswith(end):
        length = connection.recv_into(buffer)
        if not length:
            raise ConnectionError(f"the server hung up after {tail[-100:]!r}")
        tail = (tail + bytes(buffer[:length][-200:]))[-200:]
        count += length
    return count


def log_in(connection: socket.socket, name_and_password: str) -> None:
    """Log in by the text protocol. Raises ConnectionError."""
    login = name_and_password.replace(":", " ", 1).encode()
    ask(connection, b"set login 0 0 %d\r\n%b\r\n" % (len(login), login), b"STORED\r\n")


def cpu_clock_of(pid: int) -> int:
    """Give the clock that counts a process's CPU time (clock_getcpuclockid)."""
    return ~pid << 3 | 2


def watch(connection: socket.socket, server_pid: int) -> tuple[list[float], list[float]]:
    """Get again and again until there is a line on standard input; return both kinds of waits in seconds."""
    waits, by_clock = [], []
    clock, cpu_clock, cpu = time.perf_counter, cpu_clock_of(server_pid), time.clock_gettime
    due = clock()
    while not select.select([STANDARD_INPUT], [], [], max(due - clock(), 0.0))[0]:
        began, cpu_began = clock(), cpu(cpu_clock)
        ask(connection, GET, b"END\r\n")
        by_clock.append(clock() - began)
        waits.append(min(by_clock[-1], cpu(cpu_clock) - cpu_began))
        due = max(due + PERIOD_SECONDS, clock())
    return waits, by_clock


def report(waits: Sequence[float], by_clock: Sequence[float]) -> dict[str, float]:
    """Tell percentiles in milliseconds."""
    return {"p99": 1000 * p99(waits), "max": 1000 * max(waits), "clock_p99": 1000 * p99(by_clock)}


def p99(waits: Sequence[float]) -> float:
    """Find the 99th percentile of these waits, and of the gets that would have been due during each of them."""
    ordered = sorted(
        wait - missed * PERIOD_SECONDS for wait in waits for missed in range(max(math.ceil(wait / PERIOD_SECONDS), 1))
    )
    return ordered[min(int(0.99 * len(ordered)), len(ordered) - 1)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Get, and print the latencies; return the exit status."""
    parser = argparse.ArgumentParser(prog="bystander.py", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("server_pid", type=int)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--login", metavar="NAME:PASSWORD")
    options = parser.parse_args(arguments)
    gc.disable()
    with contextlib.suppress(PermissionError):  # root may: a reply is then noticed when it arrives
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        with connect(options.port, options.tls) as connection:
            if options.login:
                log_in(connection, options.login)
            ask(connection, STORE, b"STORED\r\n")
            print("ready", flush=True)
            os.read(STANDARD_INPUT, 100)
            print(json.dumps(report(*watch(connection, options.server_pid))))
    except OSError as error:
        print(f"the bystander's gets broke off: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
