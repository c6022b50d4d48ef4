"""Memory cgroups for tests: a group of its own for a program, of version 1 or 2."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.program import Program, command

V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
REMOVED_SECONDS = 10
JOIN = 'echo $$ > "$0" && exec "$@"'


class MemoryCgroup:
    """A group with a limit."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self.path = path
        self.is_v1 = (path / "memory.limit_in_bytes").exists()
        if self.is_v1:
            (path / "memory.limit_in_bytes").write_text(str(limit_bytes))
            with_swap = path / "memory.memsw.limit_in_bytes"
            if with_swap.exists():
                with_swap.write_text(str(limit_bytes))
        else:
            (path / "memory.max").write_text(str(limit_bytes))
            swap = path / "memory.swap.max"
            if swap.exists():
                swap.write_text("0")

    @property
    def kills(self) -> int:
        """How many processes were killed for want of memory."""
        text = (self.path / ("memory.oom_control" if self.is_v1 else "memory.events")).read_text()
        return int(re.findall(r"^oom_kill (\d+)$", text, re.MULTILINE)[0])

    @property
    def peak_bytes(self) -> int:
        """The most that was used, with what the kernel could have freed."""
        return int((self.path / ("memory.max_usage_in_bytes" if self.is_v1 else "memory.peak")).read_text())


def counts_no_sockets() -> bool:
    """Tell whether memory is limited by cgroups of version 1 here."""
    return V1.is_dir()


class Confined(Program):
    """A server in a group."""

    def __init__(self, group: MemoryCgroup, *flags: str, **variables: str) -> None:
        self._procs = group.path / "cgroup.procs"
        super().__init__(*flags, **variables)

    def command(self, *arguments: str) -> list[str]:
        """Join the group first."""
        return ["sh", "-c", JOIN, str(self._procs), *command(*arguments)]


@contextmanager
def memory_cgroup(limit_bytes: int) -> Iterator[MemoryCgroup]:
    """Make a group, and remove it afterwards; skip the test where none can be made, but not in CI where they may be."""
    path, reason = _make(f"memcache-kv-test-{os.getpid()}-{time.monotonic_ns()}")
    if path is None:
        if os.environ.get("CI") and any(os.access(parent, os.W_OK) for parent, _ in _parents()):
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield MemoryCgroup(path, limit_bytes)
    finally:
        give_up_at = time.monotonic() + REMOVED_SECONDS
        while path.exists():
            try:
                path.rmdir()
            except OSError:  # a process in it is about to end
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(0.05)


def _make(name: str) -> tuple[Path | None, str]:
    """Make a group with a memory controller; return its path, or None and why there can't be one."""
    reason = "there is no memory cgroup"
    for parent, limit in _parents():
        path = parent / name
        try:
            path.mkdir()
        except OSError as error:
            reason = f"can't make a cgroup in {parent}: {error.strerror}"
            continue
        try:
            (path / limit).write_text((path / limit).read_text())
            return path, ""
        except OSError as error:
            reason = f"can't limit memory in {parent}: {error.strerror}"
            path.rmdir()
    return None, reason


def _parents() -> Iterator[tuple[Path, str]]:
    """The groups that this process is in; of version 2 those above too: one with processes has none with limits."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            yield V1 / path.lstrip("/"), "memory.limit_in_bytes"
            yield V1, "memory.limit_in_bytes"
        elif not controllers:
            inside = Path(path.lstrip("/"))
            yield from ((V2 / each, "memory.max") for each in (inside, *inside.parents))
