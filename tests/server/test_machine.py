"""What a process can have of memory, read from files that the test writes."""

from pathlib import Path

import pytest

from memcache_kv.server import machine
from memcache_kv.server.machine import Bound, memory_bound

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
        (V2 | {f"{SLICE}/cache.service/memory.max": str(200 * MIB)}, Bound(200 * MIB, "its cgroup", True)),
        (V2 | {f"{SLICE}/cache.service/memory.max": "max", f"{SLICE}/memory.max": str(99 * MIB)},
         Bound(99 * MIB, "its cgroup", True)),
        (V2 | {f"{SLICE}/cache.service/memory.max": str(300 * MIB), f"{SLICE}/memory.max": "max",
               "sys/fs/cgroup/memory.max": str(250 * MIB)}, Bound(250 * MIB, "its cgroup", True)),
        ({"proc/self/cgroup": "1:name=systemd:/\n0::/"}, Bound(1024 * MIB, "this machine")),
        (V1 | {f"{V1_TOP}/docker/abc/memory.limit_in_bytes": str(2048 * MIB)}, Bound(1024 * MIB, "this machine")),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": str(64 * MIB)}, Bound(64 * MIB, "its cgroup", True)),
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
