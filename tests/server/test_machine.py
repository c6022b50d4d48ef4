"""What a process can have of memory, read from files that the test writes, and what a server says of it."""

import io
from pathlib import Path

import pytest

from memcache_kv.config.settings import Settings
from memcache_kv.journal.writer import queue_limit_bytes
from memcache_kv.observe.log import Log
from memcache_kv.server import machine
from memcache_kv.server.allocator import SystemAllocator
from memcache_kv.server.machine import Bound, memory_bound, warning
from memcache_kv.server.server import Server

MIB = 1 << 20
UNLIMITED_V1 = 9223372036854771712


@pytest.fixture(autouse=True)
def machine_of_a_gibibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "machine_bytes", lambda: 1024 * MIB)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


V2 = {"proc/self/cgroup": "0::/system.slice/cache.service"}
V1 = {"proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n1:name=systemd:/docker/abc"}
SLICE, V1_TOP = "sys/fs/cgroup/system.slice", "sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, Bound(1024 * MIB, "this machine")),
        (V2, Bound(1024 * MIB, "this machine")),
        (V2 | {f"{SLICE}/cache.service/memory.max": "max"}, Bound(1024 * MIB, "this machine")),
        (V2 | {f"{SLICE}/cache.service/memory.max": str(200 * MIB)}, Bound(200 * MIB, "its cgroup")),
        (V2 | {f"{SLICE}/cache.service/memory.max": "max", f"{SLICE}/memory.max": str(99 * MIB)},
         Bound(99 * MIB, "its cgroup")),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": str(64 * MIB)}, Bound(64 * MIB, "its cgroup")),
        (V1 | {f"{V1_TOP}/docker/abc/memory.limit_in_bytes": str(200 * MIB)}, Bound(200 * MIB, "its cgroup")),
        (V1 | {f"{V1_TOP}/memory.limit_in_bytes": str(150 * MIB)}, Bound(150 * MIB, "its cgroup")),
        (V1 | {f"{V1_TOP}/memory.limit_in_bytes": str(UNLIMITED_V1)}, Bound(1024 * MIB, "this machine")),
        (V1 | {f"{V1_TOP}/memory.limit_in_bytes": "nonsense"}, Bound(1024 * MIB, "this machine")),
    ],
)  # fmt: skip
def test_the_least_bound_counts(tmp_path: Path, files: dict[str, str], expected: Bound) -> None:
    write(tmp_path, files)
    assert memory_bound(tmp_path) == expected


def test_nothing_known_is_no_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "machine_bytes", lambda: 0)
    assert memory_bound(tmp_path) is None
    assert warning(1 << 60, 64 * MIB, None) is None


def said(monkeypatch: pytest.MonkeyPatch, bound_mib: int, **settings: object) -> str:
    """What a server says when it is made where a process can have so much."""
    monkeypatch.setattr(machine, "memory_bound", lambda: Bound(bound_mib * MIB, "its cgroup"))
    stream = io.StringIO()
    service = Server(Settings(port=0, listen=("127.0.0.1",), **settings), log=Log(0, stream))  # type: ignore[arg-type]
    service.start()
    service.stop()
    return stream.getvalue()


def test_more_than_there_is_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    told = said(monkeypatch, 200, memory_limit=250 * MIB)
    assert "warning: with -m 250 the server needs up to" in told
    assert "but its cgroup has 200 MiB" in told


def test_enough_is_not_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "warning" not in said(monkeypatch, 4096, memory_limit=64 * MIB)


def test_what_the_journal_takes_counts_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit = 1024 * MIB
    monkeypatch.setattr(SystemAllocator, "resident", lambda self: 30 * MIB)
    enough = 30 + 1024 + 64 + 10
    assert "warning" not in said(monkeypatch, enough, memory_limit=limit)
    assert "warning" in said(monkeypatch, enough, memory_limit=limit, journal=tmp_path / "journal")
    enough += 5 * queue_limit_bytes(limit) // MIB
    assert "warning" not in said(monkeypatch, enough, memory_limit=limit, journal=tmp_path / "journal")
