"""What perf, or strace in its place, tells of a running process: where its time goes, and its system calls."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SAMPLES_PER_SECOND = 1999
TOOL_SECONDS = 60
CALLS = (
    "read", "write", "readv", "writev", "recvfrom", "sendto", "recvmsg", "sendmsg", "epoll_wait", "epoll_pwait",
    "epoll_ctl", "poll", "futex", "fdatasync", "fsync", "mmap", "munmap", "madvise", "clock_nanosleep",
)  # fmt: skip
"""The system calls that perf counts: opening a counter for each call that there is would take seconds."""
LINE = re.compile(r"^\s*([\d.]+)%\s*\|\[([k.a-zA-Z])\]\s+(.+?)\s*$", re.MULTILINE)
COUNTED = re.compile(r"^(\d+),,syscalls:sys_enter_(\w+),", re.MULTILINE)
STRACED = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", re.MULTILINE)


@dataclass
class Hot:
    """Hold the functions in which perf found a process, with their shares of its time on a core."""

    kernel: dict[str, float] = field(default_factory=dict)
    user: dict[str, float] = field(default_factory=dict)

    @property
    def kernel_share(self) -> float:
        """Tell which part of the time on a core was spent in the kernel."""
        kernel = sum(self.kernel.values())
        return kernel / (kernel + sum(self.user.values()))


def perf_program() -> str | None:
    """Find perf, where it is installed and may sample processes."""
    program = shutil.which("perf")
    if program is None:
        return None
    with tempfile.TemporaryDirectory(prefix="benchmark.") as directory:
        attempt = [program, "record", "-q", "-e", "cpu-clock", "-o", f"{directory}/found", "--", "true"]
        return program if subprocess.run(attempt, capture_output=True, check=False).returncode == 0 else None


@contextlib.contextmanager
def recording(perf: str | None, pid: int) -> Iterator[Hot]:
    """Sample a process while the block runs; the functions are there after it. Without perf, there are none."""
    hot = Hot()
    if perf is None:
        yield hot
        return
    with tempfile.TemporaryDirectory(prefix="benchmark.") as directory:
        file = str(Path(directory) / "found")
        options = ("-e", "cpu-clock", "-F", str(SAMPLES_PER_SECOND), "-p", str(pid), "-o", file)
        with subprocess.Popen([perf, "record", "-q", *options], stderr=subprocess.DEVNULL) as process:
            try:
                yield hot
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(TOOL_SECONDS)
        report = [perf, "report", "-q", "--stdio", "-g", "none", "-t", "|", "--sort", "sym", "-i", file]
        fill_hot(hot, subprocess.run(report, capture_output=True, text=True, check=False).stdout)


def fill_hot(hot: Hot, report: str) -> None:
    """Read perf's report: a share, where it was ([k] is the kernel) and a function in each line."""
    for share, place, name in LINE.findall(report):
        (hot.kernel if place == "k" else hot.user)[name] = float(share) / 100


@contextlib.contextmanager
def counting(perf: str | None, pid: int) -> Iterator[dict[str, int]]:
    """Count the system calls of a process while the block runs, by their names; the counts are there after it.

    perf counts the CALLS; strace, in its place, counts all. Without either there are none.
    """
    counts: dict[str, int] = {}
    strace = shutil.which("strace")
    if perf:
        with _perf_counting(perf, pid, counts):
            yield counts
    elif strace:
        with _strace_counting(strace, pid, counts):
            yield counts
    else:
        yield counts


@contextlib.contextmanager
def _perf_counting(perf: str, pid: int, counts: dict[str, int]) -> Iterator[None]:
    """Have perf count from the moment on at which it has opened all its counters, and says so."""
    events = ",".join(f"syscalls:sys_enter_{name}" for name in CALLS)
    orders_end, orders = os.pipe()
    answers, answers_end = os.pipe()
    command = [perf, "stat", "-x", ",", "-e", events, "-p", str(pid), "-D", "-1",
               "--control", f"fd:{orders_end},{answers_end}"]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, pass_fds=(orders_end, answers_end)
    ) as process:
        os.close(orders_end)
        os.close(answers_end)
        try:
            _order(orders, answers, b"enable\n")
            yield
            _order(orders, answers, b"disable\n")
        finally:
            process.send_signal(signal.SIGINT)
            counts.update(parse_counts(process.communicate(timeout=TOOL_SECONDS)[1]))
            os.close(orders)
            os.close(answers)


def _order(orders: int, answers: int, order: bytes) -> None:
    """Give perf an order, and wait until it is carried out. A perf that has ended answers nothing."""
    with contextlib.suppress(BrokenPipeError):
        os.write(orders, order)
        os.read(answers, 100)


@contextlib.contextmanager
def _strace_counting(strace: str, pid: int, counts: dict[str, int]) -> Iterator[None]:
    command = [strace, "-c", "-f", "-p", str(pid)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            process.stderr.readline()  # that it is attached
            yield
        finally:
            process.send_signal(signal.SIGINT)
            counts.update(parse_counts(process.communicate(timeout=TOOL_SECONDS)[1]))


def parse_counts(text: str) -> dict[str, int]:
    """Read the counts that `perf stat` or `strace -c` printed; those of 0 are left out."""
    pairs = COUNTED.findall(text) or [pair for pair in STRACED.findall(text) if pair[1] != "total"]
    return {name: int(count) for count, name in pairs if int(count)}
