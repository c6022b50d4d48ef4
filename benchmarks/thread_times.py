"""What the kernel counts of a process: its time on a core, in the kernel or not, and its wait for a core."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

NANOSECONDS = 1e-9
CLOCK_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ThreadTimes:
    """Hold the seconds of one thread so far."""

    running: float
    ready: float
    """It could have run, and no core was free."""
    kernel_ticks: int
    user_ticks: int

    def since(self, before: ThreadTimes) -> ThreadTimes:
        """Subtract an earlier reading."""
        return ThreadTimes(
            self.running - before.running,
            self.ready - before.ready,
            self.kernel_ticks - before.kernel_ticks,
            self.user_ticks - before.user_ticks,
        )


def read_times(pid: int) -> dict[int, ThreadTimes]:
    """Read the times of all threads of a process, by their ids."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
            folder = Path(f"/proc/{pid}/task/{name}")
            running, ready, _ = (folder / "schedstat").read_text().split()
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            found[int(name)] = ThreadTimes(
                int(running) * NANOSECONDS, int(ready) * NANOSECONDS, int(fields[12]), int(fields[11])
            )
    return found


def spent(before: dict[int, ThreadTimes], after: dict[int, ThreadTimes]) -> list[ThreadTimes]:
    """Tell what each thread that lived all the while spent, the busiest one first."""
    found = [after[thread].since(times) for thread, times in before.items() if thread in after]
    return sorted(found, key=lambda times: times.running, reverse=True)


def kernel_share(threads: list[ThreadTimes]) -> float:
    """Tell which part of the time on a core was spent in the kernel, by the ticks of the system's clock."""
    kernel = sum(times.kernel_ticks for times in threads)
    return kernel / (kernel + sum(times.user_ticks for times in threads) or 1)
