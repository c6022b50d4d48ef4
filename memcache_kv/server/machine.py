"""How much memory this process can have: that of its cgroups, or of the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

CGROUPS = Path("sys/fs/cgroup")
MEBIBYTE = 1 << 20


class Bound(NamedTuple):
    """So much memory, and what allows no more."""

    bytes: int
    of: str


def memory_bound(root: Path = Path("/")) -> Bound | None:
    """Return the least of what the machine and each of the process's cgroups allow; None where nothing is known.

    root: where the file system begins, for tests.
    """
    bounds = [Bound(size, "its cgroup") for size in _cgroup_limits(root)]
    machine = _machine_bytes()
    if machine:
        bounds.append(Bound(machine, "this machine"))
    return min(bounds, default=None)


def warning(needed_bytes: int, limit_bytes: int, bound: Bound | None) -> str | None:
    """Return what is to be said where a process needs more than it can have, with items of so much; None: nothing."""
    if bound is None or needed_bytes <= bound.bytes:
        return None
    return (
        f"warning: with -m {limit_bytes // MEBIBYTE} the server takes up to {needed_bytes // MEBIBYTE} MiB beside what "
        f"its clients take, and {bound.of} has {bound.bytes // MEBIBYTE} MiB"
    )


def _machine_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _cgroup_limits(root: Path) -> Iterator[int]:
    """Give the limits of the cgroups that the process is in, those around them included.

    In a container the path may be that outside of it; what can be seen then is the container's own, at the top.
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
                yield limit


def _limit_in(path: Path) -> int | None:
    """Read a limit; None where there is no such file, or none is set ("max")."""
    try:
        text = path.read_text().strip()
    except (OSError, ValueError):
        return None
    return int(text) if text.isdigit() else None
