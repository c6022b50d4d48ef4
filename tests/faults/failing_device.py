"""A file whose writes or reads fail with EIO while a switch says so: what is needed for a device that fails.

A FUSE file system with this one file, which a loop device makes a block device of. (dm-error and dm-flakey do the same,
where the kernel has a device mapper.) Run as a program: DIRECTORY FILE SWITCH. It is mounted at DIRECTORY and keeps
what is written in FILE. While SWITCH holds `write`, writes and fsyncs fail; while it holds `read`, reads do; while it
holds `slow`, writes take long.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.mounts import attached, mounted, run
from tests.integration.wire import poll_until

DEVICE_BYTES = 32 << 20
ENDED_SECONDS = 10
SLOW_WRITE_SECONDS = 0.01
FAILING_FILE = b"device"
ROOT_NODE, FILE_NODE = 1, 2
LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE = 1, 2, 3, 4, 14, 15, 16, 17, 18
FSYNC, FLUSH, INIT, OPENDIR, RELEASEDIR, INTERRUPT, BATCH_FORGET = 20, 25, 26, 27, 29, 36, 42
UNANSWERED = (FORGET, INTERRUPT, BATCH_FORGET)
EMPTY = (RELEASE, FLUSH, RELEASEDIR)
REQUEST = struct.Struct("<IIQQIIII")
"""Length, opcode, unique number, node, and the caller."""
REPLY = struct.Struct("<IiQ")
ATTRIBUTES = struct.Struct("<6Q10I")
RANGE = struct.Struct("<QQIIQII")
"""What a read or write begins with: handle, offset, length and flags."""
MINOR, BIG_WRITES, MOST_WRITTEN_BYTES = 31, 1 << 5, 128 * 1024
MS_NOSUID, MS_NODEV = 2, 4


class FailingFile:
    """Answers the kernel's requests."""

    def __init__(self, file: Path, switch: Path) -> None:
        self._fd = os.open(file, os.O_RDWR)
        self._switch = switch

    def serve(self, kernel: int) -> None:
        """Answer until it is unmounted."""
        while True:
            try:
                request = os.read(kernel, MOST_WRITTEN_BYTES + 4096)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                if error.errno in (errno.ENOENT, errno.EINTR):
                    continue
                raise
            _, opcode, unique, node, *_ = REQUEST.unpack_from(request)
            if opcode in UNANSWERED:
                continue
            try:
                status, body = 0, self._answer(opcode, node, request[REQUEST.size :])
            except OSError as error:
                status, body = -(error.errno or errno.EIO), b""
            os.write(kernel, REPLY.pack(REPLY.size + len(body), status, unique) + body)

    def _answer(self, opcode: int, node: int, body: bytes) -> bytes:
        if opcode == INIT:
            return struct.pack("<4I2HII2HI28x", 7, MINOR, 0, BIG_WRITES, 0, 0, MOST_WRITTEN_BYTES, 1, 0, 0, 0)
        if opcode == LOOKUP:
            if body.rstrip(b"\0") != FAILING_FILE:
                raise OSError(errno.ENOENT, "no such file")
            return struct.pack("<4Q2I", FILE_NODE, 0, 1, 1, 0, 0) + self._attributes(FILE_NODE)
        if opcode in (GETATTR, SETATTR):
            return struct.pack("<QII", 1, 0, 0) + self._attributes(node)
        if opcode in (OPEN, OPENDIR):
            return struct.pack("<QIi", 0, 0, 0)
        if opcode == STATFS:
            return struct.pack("<5Q4I24x", 0, 0, 0, 0, 0, 4096, 255, 4096, 0)
        return self._answer_data(opcode, body)

    def _answer_data(self, opcode: int, body: bytes) -> bytes:
        """Answer what concerns the file's content, or fail as the switch says."""
        if opcode in EMPTY:
            return b""
        failing = self._switch.read_text()
        if opcode == WRITE and failing == "slow":
            time.sleep(SLOW_WRITE_SECONDS)
        if opcode == READ and failing != "read":
            _, offset, length, *_ = RANGE.unpack_from(body)
            return os.pread(self._fd, length, offset)
        if opcode == WRITE and failing != "write":
            _, offset, length, *_ = RANGE.unpack_from(body)
            return struct.pack("<II", os.pwrite(self._fd, body[RANGE.size : RANGE.size + length], offset), 0)
        if opcode == FSYNC and failing != "write":
            return b""
        raise OSError(errno.EIO if opcode in (READ, WRITE, FSYNC) else errno.ENOSYS, "fails")

    def _attributes(self, node: int) -> bytes:
        size = os.fstat(self._fd).st_size if node == FILE_NODE else 0
        mode = stat.S_IFREG | 0o600 if node == FILE_NODE else stat.S_IFDIR | 0o700
        return ATTRIBUTES.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def main(directory: Path, file: Path, switch: Path) -> None:
    """Mount the file system and serve it."""
    kernel = os.open("/dev/fuse", os.O_RDWR)
    options = b"fd=%d,rootmode=40000,user_id=0,group_id=0" % kernel
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"failing", os.fsencode(directory), b"fuse", MS_NOSUID | MS_NODEV, options):
        sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")
    FailingFile(file, switch).serve(kernel)


class FailingDevice:
    """An ext4 on a device that fails when it is told to."""

    def __init__(self, path: Path, disk: Path, switch: Path) -> None:
        self._path = path
        self._disk = disk
        self._switch = switch

    def fail(self, what: str = "") -> None:
        """Let each `write` or `read` fail from now on, or writes be `slow`; none by default."""
        self._switch.write_text(what)

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """Mount it anew, so that nothing of it is cached, once it was checked."""
        subprocess.run(["e2fsck", "-fy", str(self._path)], check=False, capture_output=True)
        with attached(self._path) as device, mounted(self._disk, "-o", "errors=continue", device):
            yield self._disk
        self._disk.rmdir()


@contextmanager
def failing_device(path: Path, size: int = DEVICE_BYTES) -> Iterator[FailingDevice]:
    """Such a device; skips the test where there is no FUSE or no loop device."""
    if not Path("/dev/fuse").exists():
        pytest.skip("the kernel has no FUSE")
    path.mkdir()
    below, file, switch = path / "below", path / "file", path / "switch"
    below.mkdir()
    switch.write_text("")
    with file.open("wb") as made:
        made.truncate(size)
    run("mkfs.ext4", "-q", "-O", "^has_journal", "-E", "nodiscard", str(file))
    command = [sys.executable, "-m", "tests.faults.failing_device", str(below), str(file), str(switch)]
    program = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        poll_until(lambda: below.is_mount() or program.poll() is not None, "it is mounted")
        if program.poll() is not None:
            pytest.skip(f"FUSE can't be used here: {program.stderr.read() if program.stderr else ''}")
        yield FailingDevice(below / FAILING_FILE.decode(), path / "disk", switch)
    finally:
        switch.write_text("")
        subprocess.run(["umount", "--lazy", str(below)], check=False, capture_output=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(ENDED_SECONDS)
        program.kill()  # where something still uses it: the kernel then fails what is asked of it
        program.wait()
        subprocess.run(["umount", "--lazy", str(below)], check=False, capture_output=True)
        if program.stderr is not None:
            program.stderr.close()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
