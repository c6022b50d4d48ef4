"""What concerns the process as a whole: its pid file, its limit of open files, its user."""

import ctypes
import errno
import fcntl
import io
import mmap
import os
import pwd
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from memcache_kv.errors import EX_NOUSER, EX_OSERR, ConfigError
from memcache_kv.observe.log import Log
from memcache_kv.server import process
from memcache_kv.server.process import (
    LOCKED_BESIDE_ITEMS_BYTES,
    RESERVED_FILES,
    allow_files,
    become_user,
    lock_memory,
    pid_file,
    warn_of_root,
)


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def log(said: io.StringIO) -> Log:
    return Log(0, said)


# The pid file


def test_the_pid_file_holds_the_pid_while_the_block_runs(tmp_path: Path, log: Log, said: io.StringIO) -> None:
    path = tmp_path / "pid"
    with pid_file(path, log):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()
    assert said.getvalue() == ""


def test_the_pid_file_goes_when_the_block_fails(tmp_path: Path, log: Log) -> None:
    path = tmp_path / "pid"
    with pytest.raises(RuntimeError), pid_file(path, log):
        raise RuntimeError
    assert not path.exists()


@pytest.mark.parametrize("left", ["99999999 and more\n", "", "x" * 1000, "0\n", "99999999999999999999\n"])
def test_a_pid_file_left_behind_is_replaced(tmp_path: Path, log: Log, said: io.StringIO, left: str) -> None:
    path = tmp_path / "pid"
    path.write_text(left)
    with pid_file(path, log):
        assert path.read_text() == f"{os.getpid()}\n"
    assert said.getvalue() == ""


def test_a_pid_file_of_a_running_process_that_does_not_lock_it_is_replaced_with_a_warning(
    tmp_path: Path, log: Log, said: io.StringIO
) -> None:
    path = tmp_path / "pid"
    path.write_text(f"{os.getppid()}\n")
    with pid_file(path, log):
        assert path.read_text() == f"{os.getpid()}\n"
    assert f"running process: {os.getppid()}" in said.getvalue()


def test_a_pid_file_in_use_is_refused_and_left_alone(tmp_path: Path, log: Log) -> None:
    path = tmp_path / "pid"
    with pid_file(path, log):
        with pytest.raises(ConfigError, match="in use by another server") as caught, pid_file(path, log):
            pytest.fail("both have it")
        assert str(os.getpid()) in str(caught.value)
        assert caught.value.status == EX_OSERR
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_a_pid_file_that_somebody_removed_is_not_missed(tmp_path: Path, log: Log, said: io.StringIO) -> None:
    path = tmp_path / "pid"
    with pid_file(path, log):
        path.unlink()
    assert not path.exists()
    assert said.getvalue() == ""


def test_a_pid_file_that_somebody_replaced_is_theirs(tmp_path: Path, log: Log) -> None:
    path = tmp_path / "pid"
    with pid_file(path, log):
        path.unlink()
        path.write_text("theirs\n")
    assert path.read_text() == "theirs\n"


def test_a_pid_file_that_its_owner_removes_between_open_and_lock_is_made_anew(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pid"
    real_lock = fcntl.flock
    locked: list[int] = []

    def remove_first(file: int, how: int) -> None:
        if not locked:
            path.unlink()
        locked.append(file)
        real_lock(file, how)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with pid_file(path, log):
        assert len(locked) == 2
        assert path.read_text() == f"{os.getpid()}\n"


def test_without_a_path_there_is_no_pid_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    monkeypatch.chdir(tmp_path)
    with pid_file(None, log):
        assert list(tmp_path.iterdir()) == []


def test_a_pid_file_that_cannot_be_written_is_refused(tmp_path: Path, log: Log) -> None:
    path = tmp_path / "nowhere" / "pid"
    with pytest.raises(ConfigError, match="pid file") as caught, pid_file(path, log):
        pass
    assert str(path) in str(caught.value)
    assert caught.value.status == EX_OSERR


def test_a_pid_file_does_not_follow_a_symbolic_link(tmp_path: Path, log: Log) -> None:
    path, target = tmp_path / "pid", tmp_path / "target"
    target.write_text("precious")
    path.symlink_to(target)
    with pytest.raises(ConfigError, match="symbolic link"), pid_file(path, log):
        pass
    assert target.read_text() == "precious"
    assert path.is_symlink()


def test_a_pid_file_that_is_no_regular_file_is_refused_and_left(tmp_path: Path, log: Log) -> None:
    path = tmp_path / "pid"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="not a regular file"), pid_file(path, log):
        pass
    assert path.is_fifo()


def test_a_pid_file_that_cannot_be_removed_is_said(
    tmp_path: Path, log: Log, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pid_file(tmp_path / "pid", log):
        monkeypatch.setattr(Path, "unlink", refuse)
    assert said.getvalue() == f"can't remove the pid file {tmp_path / 'pid'}: Permission denied; remove it by hand\n"


# Limits


class Limits:
    """The system's limits of open files, as a test wants them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, may_raise: bool = True) -> None:
        self.soft, self.hard, self.may_raise = soft, hard, may_raise
        monkeypatch.setattr(resource, "getrlimit", lambda which: (self.soft, self.hard))
        monkeypatch.setattr(resource, "setrlimit", self.set)

    def set(self, which: int, limits: tuple[int, int]) -> None:
        assert which == resource.RLIMIT_NOFILE
        soft, hard = limits
        if hard != resource.RLIM_INFINITY and soft > hard:
            raise ValueError("current limit exceeds maximum limit")
        if hard != self.hard and not self.may_raise:
            raise ValueError("not allowed to raise maximum limit")
        self.soft, self.hard = limits


def test_a_limit_that_is_high_enough_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(monkeypatch, 5000, 6000)
    allow_files(5000 - RESERVED_FILES)
    assert (limits.soft, limits.hard) == (5000, 6000)


def test_no_limit_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(monkeypatch, resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    allow_files(1 << 20)
    assert limits.soft == resource.RLIM_INFINITY


@pytest.mark.parametrize("hard", [6000, resource.RLIM_INFINITY])
def test_a_low_limit_is_raised_as_far_as_needed(monkeypatch: pytest.MonkeyPatch, hard: int) -> None:
    limits = Limits(monkeypatch, 1024, hard, may_raise=False)
    allow_files(1024)
    assert (limits.soft, limits.hard) == (1024 + RESERVED_FILES, hard)


def test_root_may_raise_the_hard_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(monkeypatch, 1024, 4096)
    allow_files(10_000)
    assert (limits.soft, limits.hard) == (10_000 + RESERVED_FILES, 10_000 + RESERVED_FILES)


def test_a_limit_that_cannot_be_raised_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    Limits(monkeypatch, 1024, 4096, may_raise=False)
    with pytest.raises(ConfigError, match=r"4096.*ulimit") as caught:
        allow_files(10_000)
    assert "10000" in str(caught.value)
    assert caught.value.status == EX_OSERR


def test_the_real_limit_is_raised_in_a_process_of_its_own() -> None:
    code = (
        "import resource\n"
        "from memcache_kv.server.process import allow_files\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))\n"
        "allow_files(100)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 100 + RESERVED_FILES


def test_a_system_without_large_pages_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = tmp_path / "enabled"
    monkeypatch.setattr(process, "HUGE_PAGES", said)
    for text in (None, "always madvise [never]\n"):
        if text is not None:
            said.write_text(text)
        with pytest.raises(ConfigError, match="large pages") as caught:
            process.check_large_pages()
        assert caught.value.status == EX_OSERR
    said.write_text("always [madvise] never\n")
    process.check_large_pages()


def test_core_dumps_that_the_system_does_not_allow_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (0, 0))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: None)
    with pytest.raises(ConfigError, match="corefile") as caught:
        process.allow_core_dumps()
    assert caught.value.status == EX_OSERR


# The user


def test_without_a_name_the_user_stays() -> None:
    before = os.geteuid()
    become_user(None)
    assert os.geteuid() == before


def test_without_root_the_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "setuid", lambda uid: pytest.fail("the user was changed"))
    become_user("root")
    become_user("nobody at all")


def test_root_cannot_become_somebody_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(ConfigError, match="nobody at all") as caught:
        become_user("nobody at all")
    assert caught.value.status == EX_NOUSER


def test_root_gives_up_groups_before_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[object, ...]] = []
    user = pwd.struct_passwd(("cache", "x", 4711, 4712, "", "/", "/bin/false"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", lambda name: user)
    monkeypatch.setattr(os, "initgroups", lambda name, gid: steps.append(("groups", name, gid)))
    monkeypatch.setattr(os, "setgid", lambda gid: steps.append(("gid", gid)))
    monkeypatch.setattr(os, "setuid", lambda uid: steps.append(("uid", uid)))
    become_user("cache")
    assert steps == [("groups", "cache", 4712), ("gid", 4712), ("uid", 4711)]


@pytest.mark.parametrize("step", ["initgroups", "setgid", "setuid"])
def test_a_user_that_the_system_does_not_allow_is_refused(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    user = pwd.struct_passwd(("cache", "x", 4711, 4712, "", "/", "/bin/false"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", lambda name: user)
    for name in ("initgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, refuse if name == step else lambda *arguments: None)
    with pytest.raises(ConfigError, match="failed to assume identity of user cache: Operation not permitted") as caught:
        become_user("cache")
    assert caught.value.status == EX_OSERR


@pytest.mark.parametrize(
    ("user", "uid", "warned"), [(None, 0, True), ("root", 0, False), (None, 1000, False), ("cache", 1000, False)]
)
def test_root_is_warned_of_unless_it_was_asked_for(
    user: str | None, uid: int, warned: bool, log: Log, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    warn_of_root(user, log)
    assert bool(said.getvalue()) is warned


# Locked memory


class Library:
    """The system's library, as far as it locks memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
        self.calls: list[str] = []
        self.status = status
        monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: self)

    def mlockall(self, flags: int) -> int:
        self.calls.append("lock")
        ctypes.set_errno(errno.ENOMEM)
        return self.status

    def munlockall(self) -> int:
        self.calls.append("unlock")
        return 0


def test_memory_that_the_system_does_not_lock_is_said(
    log: Log, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(monkeypatch, -1)
    lock_memory(1 << 20, log)
    assert library.calls == ["lock"]
    assert said.getvalue() == "warning: -k invalid, mlockall() failed: Cannot allocate memory\n"


def test_memory_is_locked_without_a_word(log: Log, said: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(monkeypatch, 0)
    lock_memory(1 << 20, log)
    assert library.calls == ["lock"]
    assert said.getvalue() == ""


def test_memory_that_could_not_grow_is_not_locked(log: Log, said: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def refuse(fileno: int, size: int, flags: int, prot: int) -> None:
        sizes.append(size)
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    library = Library(monkeypatch, 0)
    monkeypatch.setattr(mmap, "mmap", refuse)
    lock_memory(100 << 20, log)
    assert library.calls == ["lock", "unlock"]
    assert sizes == [(150 << 20) + LOCKED_BESIDE_ITEMS_BYTES]
    assert said.getvalue() == "warning: -k invalid, less than 278 MB may be locked: raise the limit with ulimit -l\n"
