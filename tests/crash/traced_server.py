"""A real server under strace: what it did to its journal's files, and what it sent to its clients, in order."""

from __future__ import annotations

import codecs
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.integration.wire import OURS, RunningServer, poll_until

CHANGES = "write,openat,fsync,fdatasync,rename,unlink,ftruncate"
NOT_MODELLED = "writev,pwrite64,pwritev,renameat,renameat2,unlinkat,truncate,link,linkat,fallocate,copy_file_range"
SENT = "sendto,sendmsg"
LONGEST_BYTES = 1 << 22
STRACE = (
    "strace", "-D", "-f", "-yy", "--seccomp-bpf", "-ttt", "-s", str(LONGEST_BYTES),
    "-e", "signal=kill", "-e", f"trace={CHANGES},{NOT_MODELLED},{SENT}",
)  # fmt: skip
LINE = re.compile(rb"(\d+) +(\d+\.\d+) (.*)", re.DOTALL)
BEGUN = re.compile(rb"(\w+)\((.*?)(?: <unfinished \.\.\.>|\) += (-?\d+|\?)(?:<.*>)?(?: \w+ \(.*\))?)$", re.DOTALL)
ENDED = re.compile(rb"<\.\.\. \w+ resumed>.*\) += (-?\d+|\?)(?:<.*>)?(?: \w+ \(.*\))?$", re.DOTALL)
QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*+)"(\.\.\.)?', re.DOTALL)
CLIENT_PORT = re.compile(rb"^\d+<TCP[^>]*->[^>]*:(\d+)\]>")


@dataclass
class Call:
    """A system call. It took place at some time between two lines of the trace."""

    name: str
    arguments: bytes
    entered: int
    left: float = math.inf
    """Infinite if it never returned."""
    result: int = -1
    began_at: float = 0.0
    """The unix time at which it was entered."""

    def strings(self) -> list[bytes]:
        """Return the strings among its arguments."""
        found = QUOTED.findall(self.arguments)
        assert not any(cut for _, cut in found), "strace has cut off a string"
        return [codecs.escape_decode(text)[0] for text, _ in found]

    @property
    def client_port(self) -> int:
        """The port of the client to which it sends; 0 if it sends to none."""
        match = CLIENT_PORT.match(self.arguments)
        return int(match[1]) if match else 0


def calls_in(trace: bytes, first_line: int = 0) -> Iterator[Call]:
    """Yield the calls of a trace, in the order in which they were entered."""
    open_calls: dict[bytes, Call] = {}
    calls: list[Call] = []
    for number, line in enumerate(trace.splitlines(), first_line):
        match = LINE.match(line)
        assert match, line[:200]
        thread, at, rest = match.groups()
        if begun := BEGUN.match(rest):
            call = Call(begun[1].decode(), begun[2], number, began_at=float(at))
            calls.append(call)
            open_calls[thread] = call
            _end(call, begun[3], number)
        elif ended := ENDED.match(rest):
            _end(open_calls[thread], ended[1], number)
        else:
            assert rest.startswith((b"+++", b"---")), line[:200]
    return iter(calls)


def _end(call: Call, result: bytes | None, number: int) -> None:
    if result not in (None, b"?"):
        call.left, call.result = number, int(result or b"", 0)


class TracedServer:
    """A server on a journal, traced; `calls` returns what it did once it has ended."""

    def __init__(self, journal: Path, fsync: str, program: str = "", flags: tuple[str, ...] = ()) -> None:
        self._trace = journal.with_name(f"{journal.name}-{len(list(journal.parent.iterdir()))}.trace")
        python = (sys.executable, "-c", program) if program else (sys.executable, "-m", "memcache_kv")
        self.server = RunningServer(
            OURS,
            ("--journal", str(journal), "--fsync", fsync, *flags),
            program=(*STRACE, "-o", str(self._trace), *python),
        )

    def calls(self, first_line: int = 0) -> list[Call]:
        """Wait until all is written of a server that has ended; return its calls."""
        ended = re.compile(rb"^%d +[\d.]+ \+\+\+ .*\+\+\+$" % self.server.pid, re.MULTILINE)
        poll_until(lambda: ended.search(self._trace.read_bytes()[-2000:]) is not None, "the trace ends")
        return list(calls_in(self._trace.read_bytes(), first_line))


def may_trace(directory: Path) -> bool:
    """Tell whether strace may trace a process here."""
    if shutil.which("strace") is None:
        return False
    command = ["strace", "-f", "--seccomp-bpf", "-o", str(directory / "tried"), "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
