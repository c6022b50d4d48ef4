"""What concerns the process as a whole: daemon, user, pid file, file limits."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import resource
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from memcache_kv.errors import ConfigError
from memcache_kv.observe.log import Log

EX_NOUSER = 67
EX_OSERR = 71
LARGE_PAGES_STATUS = 1
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
MCL_CURRENT, MCL_FUTURE = 1, 2
RESERVED_FILES = 64
"""Descriptors kept for listeners, the journal and the interpreter beside those of connections."""


def become_daemon() -> None:
    """Go on in the background, in a session of its own, with the standard streams at /dev/null."""
    for leave in (False, True):
        if os.fork():
            os._exit(0)
        if not leave:
            os.setsid()
    sys.stdout.flush()
    sys.stderr.flush()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)


def become_user(name: str | None) -> None:
    """Give up root for this user; without root, or without a name, do nothing.

    Raises ConfigError where there is no such user.
    """
    if name is None or os.geteuid() != 0:
        return
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"can't find the user {name} to switch to", EX_NOUSER) from None
    if user.pw_uid != 0:
        os.initgroups(name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)


@contextlib.contextmanager
def pid_file(path: Path | None) -> Iterator[None]:
    """Keep the process id in a file while the block runs. Raises ConfigError where it can't be written."""
    if path is None:
        yield
        return
    try:
        path.write_text(f"{os.getpid()}\n")
    except OSError as error:
        raise ConfigError(f"can't write the pid file {path}: {error.strerror}") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def allow_files(connections: int) -> None:
    """Raise the limit of open files for this many connections.

    Raises ConfigError where the system does not allow it.
    """
    wanted = connections + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted, hard if hard == resource.RLIM_INFINITY else max(hard, wanted))
        )
    except (OSError, ValueError):
        raise ConfigError(
            f"can't open {wanted} files for {connections} connections (the limit is {hard}): "
            "lower -c, or raise the limit with ulimit -n"
        ) from None


def allow_core_dumps() -> None:
    """Raise the limit of core files as far as it goes. Raises ConfigError where that is to nothing."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    for limit in (resource.RLIM_INFINITY, hard):
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
        except (OSError, ValueError):
            continue
        break
    if resource.getrlimit(resource.RLIMIT_CORE)[0] == 0:
        raise ConfigError("failed to ensure corefile creation", EX_OSERR)


def check_large_pages() -> None:
    """Find out whether the system gives large pages. Raises ConfigError where it does not."""
    try:
        said = HUGE_PAGES.read_text()
    except OSError:
        said = "[never]"
    if "[never]" in said:
        raise ConfigError("Cannot enable large pages on this system", LARGE_PAGES_STATUS)


def lock_memory(log: Log) -> None:
    """Keep all memory of the process, present and future, from being swapped out.

    Where the system refuses, that is said; nothing else comes of it, as in memcached.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if library.mlockall(MCL_CURRENT | MCL_FUTURE) != 0:
        log.say(f"warning: -k invalid, mlockall() failed: {os.strerror(ctypes.get_errno())}")


def write_ports(path: Path, lines: Iterable[str], log: Log) -> None:
    """Write the ports that are listened on, one a line, and rename the file into place once it is whole.

    A file that can't be written is said; nothing else comes of that, as in memcached.
    """
    unfinished = path.with_name(path.name + ".lck")
    try:
        unfinished.write_text("".join(f"{line}\n" for line in lines))
        unfinished.rename(path)
    except OSError as error:
        log.say(f'Failed to open "{unfinished}": {error.strerror}')


def warn_of_readers(path: Path, log: Log) -> None:
    """Say that a file with secrets can be read by everybody."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # whoever reads it says what is wrong
    if mode & stat.S_IROTH:
        log.say(f"warning: everybody can read {path}, which has secrets; chmod o-r it")
