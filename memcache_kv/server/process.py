"""The process: its user, pid file and limits."""

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
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from memcache_kv.config.memcached_options import MIB
from memcache_kv.config.settings import Protection, Settings
from memcache_kv.errors import EX_NOUSER, EX_OSERR, EX_USAGE, ConfigError
from memcache_kv.observe.log import Log
from memcache_kv.observe.log_form import Level

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
MCL_CURRENT, MCL_FUTURE = 1, 2
RESERVED_FILES = 64
"""The number of file descriptors for listeners, the journal and the interpreter."""
LOCKED_BESIDE_ITEMS_BYTES = 128 * MIB
"""The memory that a process may need besides items, for the interpreter and the stacks of threads."""
PID_BYTES = 32
"""The part of a pid file that is read."""
SWITCH_SECONDS = 0.0009
"""After this time, a thread that others wait for gives up the interpreter. `benchmarks.profile` finds the interpreter's
lock by this number, and 1,000 microseconds would be found elsewhere too."""


def share_interpreter() -> None:
    """Let a thread that waits for the interpreter get it in less than a millisecond, instead of five.

    A worker that always has requests gives it up only when it is told to. The thread that rewrites the journal asks for
    it thousands of times.
    """
    sys.setswitchinterval(SWITCH_SECONDS)


def become_user(name: str | None) -> None:
    """Switch from root to this user. Do nothing if the process is not root, or without a name.

    Raises ConfigError if there is no such user, or the system does not allow it.
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
    """Log a warning if the server runs as root without -u root."""
    if name is None and os.geteuid() == 0:
        log.warn("running as root; switch to another user with -u USER, or confirm with -u root")


def refuse_root(settings: Settings) -> None:
    """Raise ConfigError if the server would run as root without -u, and --protected strict forbids that."""
    if settings.protected is Protection.STRICT and settings.user is None and os.geteuid() == 0:
        raise ConfigError(
            "--protected strict: not started as root; switch to another user with -u USER, or confirm with -u root",
            EX_USAGE,
        )


def protect(addresses: Sequence[str], protection: Protection, log: Log) -> None:
    """Log a warning if strangers can use the server on these addresses, or raise ConfigError if that is forbidden."""
    if not addresses:
        return
    what = f"anybody who can reach {', '.join(addresses)} can read and change everything"
    advice = "ask for a login (-Y FILE) or for client certificates (-Z, -l mtls:ADDR), or listen on loopback"
    if protection is Protection.STRICT:
        raise ConfigError(f"--protected strict: not started, as {what}; {advice}", EX_USAGE)
    log.warn(f"{what}; {advice}; --protected strict would refuse to start")


@contextlib.contextmanager
def pid_file(path: Path | None, log: Log) -> Iterator[None]:
    """Keep the process id in a locked file while the block runs, and remove the file at the end.

    path: the file, or None for none. A file that is not locked was left by a crash and is overwritten. At the end, a
    file that replaced this one is kept. Raises ConfigError if another server has locked the file, or the file can't be
    written.
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
            log.say(f"can't remove the pid file {path}: {error.strerror}; remove it by hand", Level.WARNING)
        os.close(file)


def _claim_pid_file(path: Path, log: Log) -> int:
    """Write the process id to the file, and return its descriptor. The file is locked until that is closed."""
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
        os.close(file)  # the server that had locked it has just removed it


def _lock_pid_file(file: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(file).st_mode):
        raise ConfigError(f"can't write the pid file {path}: it is not a regular file", EX_OSERR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(file, PID_BYTES, 0).decode("ascii", "replace").strip()
        raise ConfigError(f"the pid file {path} is in use by another server, process {pid}", EX_OSERR) from None


def _is_at(file: int, path: Path) -> bool:
    """Return whether a path still names this open file."""
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except FileNotFoundError:
        return False


def _warn_of_running(file: int, path: Path, log: Log) -> None:
    """Log a warning, like memcached, if the process in a pid file is running: it may be another kind of server."""
    text = os.pread(file, PID_BYTES, 0).strip()
    if not text.isdigit() or int(text) in (0, os.getpid()):
        return
    with contextlib.suppress(ProcessLookupError, PermissionError, OverflowError):
        os.kill(int(text), 0)
        log.warn(f"the pid file {path} contained the id of a running process: {int(text)}")


def allow_files(connections: int) -> None:
    """Raise the limit of open files for this number of connections.

    Raises ConfigError if the system does not allow it.
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
    """Raise the size limit of core files as far as possible. Raises ConfigError if it stays 0."""
    if _raise_limit(resource.RLIMIT_CORE) == 0:
        raise ConfigError("failed to ensure corefile creation", EX_OSERR)


def allow_locked_memory() -> None:
    """Raise the limit of locked memory as far as possible. To be called as root, before the switch to another user."""
    _raise_limit(resource.RLIMIT_MEMLOCK)


def _raise_limit(which: int) -> int:
    """Raise a limit to infinity, or else to its hard limit, and return the new value."""
    _, hard = resource.getrlimit(which)
    for limit in (resource.RLIM_INFINITY, hard):
        try:
            resource.setrlimit(which, (limit, limit))
        except (OSError, ValueError):
            continue
        break
    return resource.getrlimit(which)[0]


def check_large_pages() -> None:
    """Raise ConfigError if the system has no large pages."""
    try:
        said = HUGE_PAGES.read_text()
    except OSError:
        said = "[never]"
    if "[never]" in said:
        raise ConfigError("Cannot enable large pages on this system", EX_OSERR)


def lock_memory(item_bytes: int, log: Log) -> None:
    """Lock the present and future memory of the process, so that it is not swapped out.

    item_bytes: the memory limit for items. If the system does not allow it, log a warning and go on, like memcached. Do
    the same if the limit is too low for a growing process, which then could not start another thread.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if library.mlockall(MCL_CURRENT | MCL_FUTURE) != 0:
        log.warn(f"-k invalid, mlockall() failed: {os.strerror(ctypes.get_errno())}")
        return
    needed = item_bytes + item_bytes // 2 + LOCKED_BESIDE_ITEMS_BYTES
    if not _can_map(needed):
        library.munlockall()
        log.warn(f"-k invalid, less than {needed // MIB} MB may be locked: raise the limit with ulimit -l")


def _can_map(size: int) -> bool:
    """Return whether this many bytes could be mapped now. They are reserved for an instant and not touched."""
    try:
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0).close()
    except OSError:
        return False
    return True


def write_ports(path: Path, lines: Iterable[str], log: Log) -> None:
    """Write lines with the listening ports to a file, and rename it into place once it is whole.

    If the file can't be written, log that and go on, like memcached.
    """
    unfinished = path.with_name(path.name + ".lck")
    try:
        unfinished.write_text("".join(f"{line}\n" for line in lines))
        unfinished.rename(path)
    except OSError as error:
        log.say(f'Failed to open "{unfinished}": {error.strerror}', Level.WARNING)


def warn_of_readers(path: Path, log: Log) -> None:
    """Log a warning if every user of the machine can read a file with secrets."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # an error is reported when the file is read
    if mode & stat.S_IROTH:
        log.warn(f"every user can read {path}, which has secrets; run chmod o-r {path}")
