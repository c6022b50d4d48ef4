"""What the container image runs, besides the program itself."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from memcache_kv.auth.users import Users
from memcache_kv.container import choose_journal, choose_login, without_program_name
from memcache_kv.errors import ConfigError
from tests.deploy.cluster import give_up
from tests.deploy.network import UNSHARE, why_there_is_none
from tests.program import Image, Program, environment, image_command

MOUNTED = Path("/proc")
"""A mount point on every Linux."""


def run_image(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the image's command with flags with which it ends by itself."""
    return subprocess.run(
        image_command(*arguments),
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", [[], ["memcached"], ["memcache-kv"], ["/usr/local/bin/memcached"]])
def test_a_server_starts_with_or_without_the_name_of_the_program_before_the_flags(name: list[str]) -> None:
    with Image(*name, "-p", "0", "-m", "128") as server:
        assert server.ask(b"stats settings\r\n") == b"STAT maxbytes 134217728\r\n"
        assert server.end() == 0


def test_only_the_first_argument_is_a_program_name() -> None:
    assert without_program_name(["-P", "memcached"]) == ["-P", "memcached"]
    assert without_program_name(["memcached", "memcached"]) == ["memcached"]
    assert without_program_name(["health"]) == ["health"]


def test_the_tools_run_too() -> None:
    done = run_image("memcache-kv", "journal", "--help")
    assert done.returncode == 0
    assert "verify" in done.stdout


def test_an_unknown_first_argument_is_an_error() -> None:
    done = run_image("bash")
    assert done.returncode != 0
    assert "bash" in done.stderr


# The journal


def journal_after(environ: dict[str, str], *arguments: str, directory: Path = MOUNTED) -> str | None:
    """The variable for the journal that the program then sees."""
    choose_journal(arguments, environ, directory)
    return environ.get("MEMCACHE_KV_JOURNAL")


def test_a_mount_turns_the_journal_on() -> None:
    assert journal_after({}, "-m", "64") == str(MOUNTED)


SHOW_THE_JOURNAL = """
import os, pathlib, sys
from memcache_kv.container import choose_journal
choose_journal([], os.environ, pathlib.Path(sys.argv[1]))
print(os.environ.get("MEMCACHE_KV_JOURNAL"))
"""


def test_a_mounted_directory_of_the_same_file_system_does_so_too(tmp_path: Path) -> None:
    """Engines whose images and volumes share a file system mount such directories."""
    reason = why_there_is_none()
    if reason is not None:
        give_up(reason)
    (tmp_path / "volume").mkdir()
    (tmp_path / "data").mkdir()
    show = [sys.executable, "-c", SHOW_THE_JOURNAL, str(tmp_path / "data")]
    mount = [
        "sh",
        "-ec",
        'mount --bind "$0" "$1" && shift && exec "$@"',
        str(tmp_path / "volume"),
        str(tmp_path / "data"),
    ]
    said = subprocess.check_output([*UNSHARE, *mount, *show], text=True, env=environment(), timeout=60)
    assert said.strip() == str(tmp_path / "data")
    assert subprocess.check_output(show, text=True, env=environment(), timeout=60).strip() == "None"


def test_a_directory_of_the_image_does_not(tmp_path: Path) -> None:
    assert journal_after({}, directory=tmp_path) is None
    assert journal_after({}, directory=tmp_path / "missing") is None


def test_a_variable_decides_and_an_empty_one_turns_the_journal_off() -> None:
    assert journal_after({"MEMCACHE_KV_JOURNAL": "/elsewhere"}) == "/elsewhere"
    assert journal_after({"MEMCACHE_KV_JOURNAL": ""}) is None


def test_a_toml_file_decides() -> None:
    assert journal_after({}, "--config", "/etc/kv.toml") is None
    assert journal_after({}, "--config=/etc/kv.toml") is None
    assert journal_after({"MEMCACHE_KV_CONFIG": "/etc/kv.toml"}) is None


def test_a_flag_wins_over_the_mount(tmp_path: Path) -> None:
    environ = {"MEMCACHE_KV_JOURNAL": str(tmp_path / "mount")}
    with Image("-p", "0", "--journal", str(tmp_path / "flag"), **environ):
        assert (tmp_path / "flag").is_dir()
        assert not (tmp_path / "mount").exists()


# The login


def test_a_user_in_the_variables_of_other_images_has_to_log_in(tmp_path: Path) -> None:
    users_file = tmp_path / "users"
    users_file.write_text("left by the container before\n")
    environ = {"MEMCACHED_USERNAME": "ann", "MEMCACHED_PASSWORD": "secret"}
    choose_login(environ, users_file)
    assert stat.S_IMODE(users_file.stat().st_mode) == 0o600
    assert "MEMCACHED_PASSWORD" not in environ
    with Program("-p", "0", **environ) as server:
        assert server.ask(b"get a\r\n").startswith(b"CLIENT_ERROR")
        assert server.ask(b"set auth 0 0 10\r\nann secret\r\n") == b"STORED\r\n"
        assert server.ask_in_binary(bytes([0x80, 0x20]).ljust(24, b"\0")) == b"\x81\x20"


def test_a_password_may_come_from_a_file_and_loses_one_line_end(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("sec ret\n")
    environ = {"MEMCACHED_USERNAME": "ann", "MEMCACHED_PASSWORD_FILE": str(tmp_path / "password")}
    choose_login(environ, tmp_path / "users")
    assert Users(tmp_path / "users").is_known(b"ann", b"sec ret")


def test_without_a_user_nobody_has_to_log_in(tmp_path: Path) -> None:
    environ = {"MEMCACHED_PASSWORD": "secret"}
    choose_login(environ, tmp_path / "users")
    assert "MEMCACHE_KV_AUTH_FILE" not in environ
    assert not (tmp_path / "users").exists()


@pytest.mark.parametrize(
    ("name", "password"),
    [("ann", ""), ("a:b", "x"), ("ann", "x\ny"), ("ann", "x:read"), ("ann", "x" * 255), ("ann\0", "x")],
)
def test_a_user_that_the_file_would_change_is_an_error(tmp_path: Path, name: str, password: str) -> None:
    with pytest.raises(ConfigError, match="do not fit"):
        choose_login({"MEMCACHED_USERNAME": name, "MEMCACHED_PASSWORD": password}, tmp_path / "users")


def test_a_user_beside_a_users_file_is_an_error(tmp_path: Path) -> None:
    done = run_image(MEMCACHED_USERNAME="ann", MEMCACHED_PASSWORD="x", MEMCACHE_KV_AUTH_FILE=str(tmp_path))
    assert done.returncode == 2
    assert "exclude each other" in done.stderr


def test_an_unreadable_password_file_is_an_error(tmp_path: Path) -> None:
    done = run_image(MEMCACHED_USERNAME="ann", MEMCACHED_PASSWORD_FILE=str(tmp_path / "missing"))
    assert done.returncode == 2
    assert "No such file" in done.stderr


def test_nothing_is_imported_from_the_directory_it_starts_in(tmp_path: Path) -> None:
    (tmp_path / "msgspec.py").write_text("raise SystemExit('imported')")
    done = subprocess.run(
        image_command("--version"),
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
