"""How much memory a server may take with its settings, part by part: what `--memory-plan` prints and a start checks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from memcache_kv.config.memcached_options import KIB
from memcache_kv.config.settings import MIB, Settings
from memcache_kv.observe.prefixes import MAX_PREFIXES, PREFIX_BYTES
from memcache_kv.protocol.session import READ_BYTES, TURN_BYTES
from memcache_kv.server.connection import CONNECTION_BYTES, KERNEL_BYTES, TLS_BYTES, UNREAD_BYTES, UNSENT_BYTES
from memcache_kv.server.connection_memory import UNCOUNTED_BYTES
from memcache_kv.server.machine import Bound
from memcache_kv.server.memory import most_holes_bytes

INTERPRETER_BYTES = 24 * MIB
"""A process without items: the interpreter, the code, and what a start leaves."""
JOURNAL_CODE_BYTES = 12 * MIB
TLS_CODE_BYTES = 6 * MIB
HTTP_CODE_BYTES = 6 * MIB
VALUES_IN_A_TURN = 3
"""A worker has a value in memory as it came, as it is stored, and as it goes out."""


class MemoryPart(NamedTuple):
    """A part of the process's memory: its name, the most that it takes, and why it takes no more."""

    name: str
    bytes: int
    why: str


class MemoryPlan(NamedTuple):
    """The parts of a server's memory, and what the kernel keeps in the buffers of sockets."""

    parts: tuple[MemoryPart, ...]
    sockets: MemoryPart

    def mebibytes(self, with_sockets: bool = False) -> int:
        """Return the sum, rounded up."""
        total = sum(part.bytes for part in self.parts) + (self.sockets.bytes if with_sockets else 0)
        return -(-total // MIB)

    def table(self) -> str:
        """Return the parts, their sums, and how to write them for systemd, Kubernetes and Docker."""
        process, limit = self.mebibytes(), self.mebibytes(with_sockets=True)
        rows = [
            ("part", "MiB", "why no more"),
            *(_row(part) for part in self.parts),
            ("sum", f"{process:,}", "the process; the limit for a cgroup of version 1"),
            _row(self.sockets),
            ("sum with sockets", f"{limit:,}", "the limit for a cgroup of version 2, which counts them"),
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        lines = [f"{name:{widths[0]}}  {most:>{widths[1]}}  {why}" for name, most, why in rows]
        places = (
            f"systemd:     MemoryMax={limit}M",
            f"Kubernetes:  resources.limits.memory: {limit}Mi",
            f"Docker:      --memory {limit}m",
        )
        return "\n".join([*lines, "", *places, ""])


def _row(part: MemoryPart) -> tuple[str, str, str]:
    return part.name, f"{part.bytes / MIB:,.1f}", part.why


def memory_plan(settings: Settings, workers: int, beside_bytes: int = 0) -> MemoryPlan:
    """Return the plan of a server.

    beside_bytes: what the process has beside items, if it is known; a program that embeds the server may have much.
    """
    parts = (*_parts(settings, workers, beside_bytes), *_journal_parts(settings, workers))
    unsent, unread = UNSENT_BYTES // KIB, UNREAD_BYTES // KIB
    why = f"-c {settings.conn_limit}: {unsent} KiB of replies and {unread} KiB of input each"
    return MemoryPlan(
        parts, MemoryPart("sockets, in the kernel", settings.conn_limit * (UNSENT_BYTES + UNREAD_BYTES), why)
    )


def _parts(settings: Settings, workers: int, beside_bytes: int) -> Iterator[MemoryPart]:
    connections, item = settings.conn_limit, settings.max_item_size
    per_connection = CONNECTION_BYTES + UNCOUNTED_BYTES + KERNEL_BYTES + (TLS_BYTES if settings.enable_ssl else 0)
    yield MemoryPart("process", max(beside_bytes, _process_bytes(settings)), "the interpreter, the code, a start")
    yield MemoryPart("items", settings.memory_limit, "-m")
    yield MemoryPart(
        "holes between items", most_holes_bytes(settings.memory_limit), "fewer items are kept if there are more"
    )
    yield MemoryPart("kept input and replies", settings.connection_memory_bytes, "--connection-memory")
    yield MemoryPart(
        "connections", connections * per_connection, f"-c {connections}: {per_connection // KIB} KiB each, beside that"
    )
    yield MemoryPart(
        "turns of workers",
        workers * (TURN_BYTES + VALUES_IN_A_TURN * item),
        f"-t {workers}: 1 MiB of replies and {VALUES_IN_A_TURN} times -I each",
    )
    yield MemoryPart("prefix counts", MAX_PREFIXES * PREFIX_BYTES, f"`stats detail` counts {MAX_PREFIXES:,} prefixes")


def _journal_parts(settings: Settings, workers: int) -> Iterator[MemoryPart]:
    if settings.journal is None:
        return
    from memcache_kv.journal.memory import most_memory

    connections, item = settings.conn_limit, settings.max_item_size
    arriving = connections * READ_BYTES + workers * item
    most = most_memory(settings.memory_limit, item, arriving, settings.fsync)
    yield MemoryPart("journal: queue", most.queue, "a sixteenth of -m, from 4 to 64 MiB; then clients wait")
    yield MemoryPart(
        "journal: behind the queue", arriving, f"{READ_BYTES // KIB} KiB of each connection, one -I of each worker"
    )
    yield MemoryPart("journal: being written", most.pieces, "pieces of 1 MiB; of a rewrite, 128 KiB; or one value")
    if most.unsynced:
        yield MemoryPart(
            "journal: not synced", most.unsynced, f"--fsync {settings.fsync}: twice the queue, and one full queue more"
        )


def _process_bytes(settings: Settings) -> int:
    extra = (
        (settings.journal, JOURNAL_CODE_BYTES),
        (settings.enable_ssl, TLS_CODE_BYTES),
        (settings.http_listen, HTTP_CODE_BYTES),
    )
    return INTERPRETER_BYTES + sum(size for is_used, size in extra if is_used)


def memory_warning(settings: Settings, workers: int, beside_bytes: int, bound: Bound | None) -> str | None:
    """Return a warning if the server may need more memory than the bound, or None.

    It names both figures, and the -m with which the server would have enough.
    """
    if bound is None:
        return None
    needed = memory_plan(settings, workers, beside_bytes).mebibytes(bound.counts_sockets)
    if needed * MIB <= bound.bytes:
        return None
    fitting = _fitting_limit(settings, workers, beside_bytes, bound)
    lower = f"lower -m to {fitting}" if fitting else "lower -m, -c and --connection-memory"
    return (
        f"with -m {settings.memory_limit // MIB} this server may need {needed} MiB of memory, but {bound.of} has "
        f"{bound.bytes // MIB} MiB, and the system may kill it: {lower}, or give it {needed} MiB "
        "(--memory-plan lists what takes how much)"
    )


def _fitting_limit(settings: Settings, workers: int, beside_bytes: int, bound: Bound) -> int:
    """Return the highest -m, in MiB, with which the server needs no more than the bound; 0 if there is none."""
    fits, too_much = 0, settings.memory_limit // MIB
    while too_much - fits > 1:
        tried = (fits + too_much) // 2
        plan = memory_plan(settings._replace(memory_limit=tried * MIB), workers, beside_bytes)
        has_room = plan.mebibytes(bound.counts_sockets) * MIB <= bound.bytes
        fits, too_much = (tried, too_much) if has_room else (fits, tried)
    return fits
