"""What concerns the process as a whole: its pid file, its limit of open files, its user."""

import os
import pwd
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from memcache_kv.errors import ConfigError
from memcache_kv.server.process import EX_NOUSER, RESERVED_FILES, allow_files, become_user, pid_file


def test_the_pid_file_holds_the_pid_while_the_block_runs(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_the_pid_file_goes_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with pytest.raises(RuntimeError), pid_file(path):
        raise RuntimeError
    assert not path.exists()


def test_a_pid_file_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("99999999 and more\n")
    with pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_pid_file_that_somebody_removed_is_not_missed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with pid_file(path):
        path.unlink()
    assert not path.exists()


def test_without_a_path_there_is_no_pid_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pid_file(None):
        assert list(tmp_path.iterdir()) == []


def test_a_pid_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "pid"
    with pytest.raises(ConfigError, match="pid file") as caught, pid_file(path):
        pass
    assert str(path) in str(caught.value)


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
