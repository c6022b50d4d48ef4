"""How much memory this process can have, by the limits of its cgroups and the size of the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

CGROUPS = Path("sys/fs/cgroup")


class Bound(NamedTuple):
    """An amount of memory, and what limits it: "its cgroup" or "this machine"."""

    bytes: int
    of: str
    counts_sockets: bool = False
    """Whether data in the buffers of sockets counts. It does in cgroups of version 2."""


def memory_bound(root: Path = Path("/")) -> Bound | None:
    """Return the lowest limit among the machine's memory and the process's cgroups; None if none is known.

    root: the root of the file system, which tests replace.
    """
    bounds = [Bound(size, "its cgroup", is_v2) for size, is_v2 in _cgroup_limits(root)]
    machine = machine_bytes()
    if machine:
        bounds.append(Bound(machine, "this machine"))
    return min(bounds, default=None)


def machine_bytes() -> int:
    """Return how much memory the machine has; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _cgroup_limits(root: Path) -> Iterator[tuple[int, bool]]:
    """Yield the limits of the cgroups that the process is in, and of their parents, and whether they are of version 2.

    In a container, /proc may give the path outside the container. Then only the container's own cgroup, at the top, is
    found.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            top, name = root / CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / CGROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        for folder in (inside, *inside.parents):
            limit = _limit_in(top / folder / name)
            if limit is not None:
                yield limit, not controllers


def _limit_in(path: Path) -> int | None:
    """Read a limit; None if there is no such file, or no limit is set ("max")."""
    try:
        text = path.read_text().strip()
    except (OSError, ValueError):
        return None
    return int(text) if text.isdigit() else None
