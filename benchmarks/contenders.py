"""The servers that are compared: how each is started, and what runs it here."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.durability_servers import SERVER_CORES, put_on_cores
from benchmarks.ways import Way, this_way
from clients.address import Address
from clients.local_server import LocalServer, answers, default_command

MEMORY_MEGABYTES = 1024
STATS_SECONDS = 30
OURS = "memcache_kv"
OURS_WITH_JOURNAL = "memcache_kv, journal everysec"
BASELINE = "memcached -t 1"
NO_MEMCACHED = "memcached skipped: not found; install it or set MEMCACHED to its path"


@dataclass(frozen=True)
class Contender:
    """Name a server and the command that starts it."""

    name: str
    command: tuple[str, ...]
    journal: bool = False


def memcached_program() -> str | None:
    """Find memcached by the environment's MEMCACHED, or on the PATH."""
    return shutil.which(os.environ.get("MEMCACHED") or "memcached")


def ours(
    *flags: str, memory: int = MEMORY_MEGABYTES, name: str = OURS, journal: bool = False, way: Way | None = None
) -> Contender:
    """Describe memcache_kv, run by this interpreter or in a given way, which the name tells then."""
    sync = ("--fsync", "everysec") if journal else ()
    command = default_command() if way is None else way.command
    named = name if way is None else way.named(name)
    return Contender(named, (*command, "-m", str(memory), *sync, *flags), journal)


def memcached(*flags: str, memory: int = MEMORY_MEGABYTES, name: str = BASELINE) -> list[Contender]:
    """Describe memcached; nothing where it is not installed."""
    program = memcached_program()
    if program is None:
        return []
    user = ("-u", "root") if os.geteuid() == 0 else ()
    threads = ("-t", "1") if name == BASELINE else ()
    return [Contender(name, (program, *user, "-U", "0", "-m", str(memory), *threads, *flags))]


def both(*flags: str, memory: int = MEMORY_MEGABYTES) -> list[Contender]:
    """List memcache_kv and, where it is installed, memcached with one worker thread."""
    return [ours(*flags, memory=memory), *memcached(*flags, memory=memory)]


@contextlib.contextmanager
def running(
    contender: Contender, apart: bool = False, is_ready: Callable[[Address], bool] = answers
) -> Iterator[LocalServer]:
    """Start a server, and stop it at the end of the block.

    apart: whether it leaves the last core to the load.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark.") as directory:
        arguments = ["--journal", directory] if contender.journal else []
        with LocalServer(contender.command, arguments, is_ready) as server:
            if apart:
                put_threads_on_cores(server.pid)
            yield server


def put_threads_on_cores(pid: int) -> None:
    """Leave the last core to the load."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        put_on_cores(int(thread), SERVER_CORES)


def statistics_of(server: LocalServer) -> dict[str, str]:
    """Return what a server says of itself."""
    with server.address.connect(STATS_SECONDS) as connection:
        connection.sendall(b"stats\r\n")
        answer = b""
        while not answer.endswith(b"END\r\n"):
            data = connection.recv(65536)
            if not data:
                raise ConnectionError("the server hung up instead of answering `stats`")
            answer += data
    return dict(re.findall(r"^STAT (\S+) (\S+)\r$", answer.decode(), re.MULTILINE))


def machine_line() -> str:
    """Describe what the figures were taken on."""
    program = memcached_program()
    version = ""
    if program:
        output = subprocess.run([program, "-V"], capture_output=True, text=True, check=False).stdout
        match = re.search(r"memcached (\S+)", output)
        version = f", memcached {match[1]}" if match else ""
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, {this_way().label}{version}"
