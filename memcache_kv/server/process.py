"""What concerns the process as a whole: standard streams, user, pid file, limits."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import pwd
import resource
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from memcache_kv.config.memcached_options import MIB
from memcache_kv.errors import EX_NOUSER, EX_OSERR, ConfigError
from memcache_kv.observe.log import Log

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
MCL_CURRENT, MCL_FUTURE = 1, 2
RESERVED_FILES = 64
"""Descriptors kept for listeners, the journal and the interpreter beside those of connections."""
LOCKED_BESIDE_ITEMS_BYTES = 128 * MIB
"""What a process may come to take beside its items: the interpreter and the stacks of its threads."""
PID_BYTES = 32
"""How much of a pid file is read."""


def open_standard_streams() -> None:
    """Open those standard streams at /dev/null that are closed.

    Otherwise the next file or socket would get such a descriptor, and with it what is meant for standard error.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # the interpreter found the descriptor closed
            lowest_free = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(lowest_free, "w" if number else "r"))


def discard_broken_streams() -> None:
    """Discard output that can't be written to a broken pipe. Otherwise the interpreter would exit with status 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def become_user(name: str | None) -> None:
    """Give up root for this user; without root, or without a name, do nothing.

    Raises ConfigError where there is no such user, or the system does not allow it.
    """
    if name is None or os.geteuid() != 0:
        return
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"can't find the user {name} to switch to", EX_NOUSER) from None
    if user.pw_uid == 0:
        return
    try:
        os.initgroups(name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    except OSError as error:
        raise ConfigError(f"failed to assume identity of user {name}: {error.strerror}", EX_OSERR) from None


def warn_of_root(name: str | None, log: Log) -> None:
    """Say that the server runs as root where nobody asked for that."""
    if name is None and os.geteuid() == 0:
        log.say("warning: running as root; name another user with -u, or -u root if root is meant")


@contextlib.contextmanager
def pid_file(path: Path | None, log: Log) -> Iterator[None]:
    """Keep the process id in a file while the block runs.

    The file is locked meanwhile, and removed at the end if it is still this one. One that nobody has locked is left
    from a crash, and written over. Raises ConfigError where another server has it, or it can't be written.
    """
    if path is None:
        yield
        return
    try:
        file = _claim_pid_file(path, log)
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise ConfigError(f"can't write the pid file {path}: {reason}", EX_OSERR) from None
    try:
        yield
    finally:
        try:
            if _is_at(file, path):
                path.unlink()
        except OSError as error:
            log.say(f"can't remove the pid file {path}: {error.strerror}")
        os.close(file)


def _claim_pid_file(path: Path, log: Log) -> int:
    """Write the process id to a file that stays locked as long as the returned descriptor is open."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        try:
            _lock_pid_file(file, path)
            if _is_at(file, path):
                _warn_of_running(file, path, log)
                os.pwrite(file, text := b"%d\n" % os.getpid(), 0)
                os.ftruncate(file, len(text))
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # the server that had it removed it just now


def _lock_pid_file(file: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(file).st_mode):
        raise ConfigError(f"can't write the pid file {path}: it is not a regular file", EX_OSERR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(file, PID_BYTES, 0).decode("ascii", "replace").strip()
        raise ConfigError(f"the pid file {path} is in use by another server, process {pid}", EX_OSERR) from None


def _is_at(file: int, path: Path) -> bool:
    """Tell whether an open file is the one that a path leads to."""
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except FileNotFoundError:
        return False


def _warn_of_running(file: int, path: Path, log: Log) -> None:
    """Say, as memcached does, that the process which a pid file names is running: it may be another kind of server."""
    text = os.pread(file, PID_BYTES, 0).strip()
    if not text.isdigit() or int(text) in (0, os.getpid()):
        return
    with contextlib.suppress(ProcessLookupError, PermissionError, OverflowError):
        os.kill(int(text), 0)
        log.say(f"warning: the pid file {path} contained the id of a running process: {int(text)}")


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
            "lower -c, or raise the limit with ulimit -n",
            EX_OSERR,
        ) from None


def allow_core_dumps() -> None:
    """Raise the limit of core files as far as it goes. Raises ConfigError where that is to nothing."""
    if _raise_limit(resource.RLIMIT_CORE) == 0:
        raise ConfigError("failed to ensure corefile creation", EX_OSERR)


def allow_locked_memory() -> None:
    """Raise the limit of locked memory as far as it goes, which only root may; so before root is given up."""
    _raise_limit(resource.RLIMIT_MEMLOCK)


def _raise_limit(which: int) -> int:
    """Raise a limit to infinity, or to what the system allows; return what it is then."""
    _, hard = resource.getrlimit(which)
    for limit in (resource.RLIM_INFINITY, hard):
        try:
            resource.setrlimit(which, (limit, limit))
        except (OSError, ValueError):
            continue
        break
    return resource.getrlimit(which)[0]


def check_large_pages() -> None:
    """Find out whether the system gives large pages. Raises ConfigError where it does not."""
    try:
        said = HUGE_PAGES.read_text()
    except OSError:
        said = "[never]"
    if "[never]" in said:
        raise ConfigError("Cannot enable large pages on this system", EX_OSERR)


def lock_memory(item_bytes: int, log: Log) -> None:
    """Keep all memory of the process, present and future, from being swapped out.

    item_bytes: what its items may take. Where the system refuses, that is said; nothing else comes of it, as in
    memcached. A limit that a growing process would hit counts as a refusal: the next thread could not be started.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if library.mlockall(MCL_CURRENT | MCL_FUTURE) != 0:
        log.say(f"warning: -k invalid, mlockall() failed: {os.strerror(ctypes.get_errno())}")
        return
    needed = item_bytes + item_bytes // 2 + LOCKED_BESIDE_ITEMS_BYTES
    if not _can_map(needed):
        library.munlockall()
        log.say(f"warning: -k invalid, less than {needed // MIB} MB may be locked: raise the limit with ulimit -l")


def _can_map(size: int) -> bool:
    """Tell whether so much more memory could be had now; it is reserved for an instant, and none of it is touched."""
    try:
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0).close()
    except OSError:
        return False
    return True


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
