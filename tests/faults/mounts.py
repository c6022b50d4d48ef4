"""File systems of their own for tests: made, mounted, and unmounted whatever happens."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHUNK_BYTES = 1 << 16


def run(*command: str) -> str:
    """Run a command of the system, and return what it prints; skip the test where that is not allowed here."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if done.returncode:
        pytest.skip(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def mounted(path: Path, *arguments: str) -> Iterator[Path]:
    """Mount something at a path that is made for it."""
    path.mkdir()
    run("mount", *arguments, str(path))
    try:
        yield path
    finally:
        if subprocess.run(["umount", str(path)], capture_output=True).returncode:
            subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextmanager
def attached(file: Path) -> Iterator[str]:
    """A loop device on a file."""
    device = run("losetup", "--find", "--show", str(file))
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A tmpfs of this size."""
    with mounted(path, "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs"):
        yield path


@contextmanager
def image(path: Path, file: Path, options: str) -> Iterator[Path]:
    """An ext4 in a file, through a loop device."""
    with file.open("wb") as made:
        made.truncate(32 << 20)
    run("mkfs.ext4", "-q", "-O", "^has_journal", "-E", "nodiscard", str(file))
    with mounted(path, "-o", f"loop,{options}", str(file)):
        yield path


def fill(directory: Path, leave: int = 0) -> Path:
    """Take all room that there is, and then give some bytes back; return the file that has it."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(CHUNK_BYTES))
        except OSError:
            pass
        file.truncate(file.tell() - leave)
    return filler
