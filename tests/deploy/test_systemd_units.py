"""The units of deploy/systemd/: what systemd says of them, and what a real systemd does with them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memcache_kv.version import PROTOCOL_VERSION
from tests.deploy.booted import BOOT_SECONDS, UNITS, boot, why_none_boots
from tests.deploy.cluster import program_of

SERVICES = ("memcache-kv.service", "memcache-kv@.service")
LARGEST_EXPOSURE = 2.0
SCENARIO = Path(__file__).parent / "scenario.py"


def installed(directory: Path) -> list[Path]:
    """The units in a directory, with a program that exists here in the place of the installed one."""
    paths = []
    for path in sorted(UNITS.iterdir()):
        if path.suffix in (".service", ".socket"):
            copy = directory / path.name
            copy.write_text(path.read_text().replace("/usr/local/bin/memcache-kv", sys.executable))
            paths.append(copy)
    return paths


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    analyze = program_of("systemd", "systemd-analyze")
    names = [str(path).replace("@.", "@name.") for path in installed(tmp_path)]
    done = subprocess.run([analyze, "verify", "--man=no", *names], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "memcache-kv" in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_little_but_serve(name: str, tmp_path: Path) -> None:
    analyze = program_of("systemd", "systemd-analyze")
    shutil.copy(UNITS / name, tmp_path)
    command = [analyze, "security", "--offline=true", f"--threshold={LARGEST_EXPOSURE * 10:.0f}", str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None
    assert float(found[1]) <= LARGEST_EXPOSURE


def test_the_two_services_differ_in_the_name_only() -> None:
    def settings(name: str) -> list[str]:
        return [line for line in (UNITS / name).read_text().splitlines() if line and not line.startswith("#")]

    template = "\n".join(settings("memcache-kv@.service")).replace("%i.conf", "memcache-kv.conf")
    assert template.replace("/%i", "").replace(" %i,", ",").splitlines() == settings("memcache-kv.service")


def test_users_and_folders_are_understood(tmp_path: Path) -> None:
    sysusers, tmpfiles = program_of("systemd", "systemd-sysusers"), program_of("systemd", "systemd-tmpfiles")
    etc = tmp_path / "etc"
    etc.mkdir()
    root = f"--root={tmp_path}"
    for name, text in (("passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("group", "root:x:0:\n")):
        (etc / name).write_text(text)
    done = subprocess.run(
        [sysusers, root, str(UNITS / "memcache-kv.sysusers.conf")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "memcache-kv:x:" in (etc / "passwd").read_text()
    done = subprocess.run(
        [tmpfiles, "--create", root, str(UNITS / "memcache-kv.tmpfiles.conf")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (etc / "memcache-kv").stat().st_mode & 0o777 == 0o750


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a real systemd has done with the units."""
    reason = why_none_boots()
    if reason:
        pytest.skip(reason)
    return boot(tmp_path_factory.mktemp("systemd"), SCENARIO)


@pytest.mark.long
@pytest.mark.timeout(BOOT_SECONDS + 60)
class TestARealSystemd:
    def test_the_first_client_starts_the_service(self, seen: dict[str, Any]) -> None:
        assert seen["before"] == {"ActiveState": "inactive"}
        assert seen["first answer"] == "STORED\r\n"
        assert seen["started"] == {
            "ActiveState": "active",
            "SubState": "running",
            "StatusText": "serving on 127.0.0.1:11211, [::1]:11211",
            "User": "memcache-kv",
        }
        assert seen["http"] == "v"

    def test_the_server_has_no_privileges(self, seen: dict[str, Any]) -> None:
        assert seen["process"] == {"CapBnd": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"}

    def test_no_restart_loses_a_connection_attempt(self, seen: dict[str, Any]) -> None:
        assert seen["processes"] == 5
        assert seen["load"]["refused"] == []
        assert seen["load"]["served"] > 100

    def test_the_journal_keeps_items(self, seen: dict[str, Any]) -> None:
        assert seen["kept"] == seen["after the watchdog"] == "VALUE a 0 1\r\n"

    def test_a_reload_ends(self, seen: dict[str, Any]) -> None:
        assert (seen["reloaded"]["ActiveState"], seen["reloaded"]["SubState"]) == ("active", "running")
        assert seen["reloaded"]["StatusText"].startswith("serving on ")

    def test_the_template_serves_with_a_memcached_conf(self, seen: dict[str, Any]) -> None:
        assert seen["other"] == seen["direct"] == seen["unix"] == seen["not twice"] == f"VERSION {PROTOCOL_VERSION}\r\n"
        assert seen["other stopped"] == {"ActiveState": "inactive", "Result": "success"}

    def test_a_bad_file_is_no_reason_to_start_again(self, seen: dict[str, Any]) -> None:
        assert seen["bad"] == {"ActiveState": "failed", "ExecMainStatus": "2", "NRestarts": "0"}

    def test_a_stop_is_a_success(self, seen: dict[str, Any]) -> None:
        assert seen["stopped"] == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}
