"""What can be known of the image without building it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clients.local_server import LocalServer, default_command, free_port

ROOT = Path(__file__).resolve().parent.parent

Instructions = dict[str, list[str]]


@pytest.fixture(scope="module")
def instructions() -> Instructions:
    """Parse the Dockerfile: the arguments of every instruction, by its name."""
    lines = (ROOT / "Dockerfile").read_text().splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("#")).replace("\\\n", "")
    parsed: Instructions = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, arguments = line.split(None, 1)
        parsed.setdefault(name, []).append(arguments)
    return parsed


def exec_form(arguments: str) -> list[str]:
    """Read the JSON list of an instruction."""
    command = json.loads(arguments[arguments.index("[") :])
    assert isinstance(command, list)
    return command


def run_health_check(instructions: Instructions, port: int) -> int:
    """Run the health check's command as the engine would, told the port; return its status."""
    [arguments] = instructions["HEALTHCHECK"]
    program, *rest = exec_form(arguments)
    assert program == "python"
    environment = {**os.environ, "MEMCACHE_KV_PORT": str(port)}
    done = subprocess.run([sys.executable, *rest], env=environment, capture_output=True, timeout=30)
    return done.returncode


def test_only_known_instructions_are_used(instructions: Instructions) -> None:
    known = "FROM WORKDIR COPY RUN USER VOLUME EXPOSE STOPSIGNAL HEALTHCHECK ENTRYPOINT"
    assert set(instructions) == set(known.split())


def test_the_base_is_a_slim_python_the_package_supports(instructions: Instructions) -> None:
    match = re.fullmatch(r"python:3\.(\d+)-slim", instructions["FROM"][0])
    assert match is not None
    assert int(match[1]) >= 11


def test_the_server_does_not_run_as_root_and_owns_its_volume(instructions: Instructions) -> None:
    [user] = instructions["USER"]
    assert user not in ("root", "0")
    assert re.search(rf"useradd --system .* {user} ", instructions["RUN"][0])
    assert f"install -d -o {user} -g {user} /data" in instructions["RUN"][0]
    assert instructions["VOLUME"] == ["/data"]


def test_port_and_stop_signal_are_declared(instructions: Instructions) -> None:
    assert instructions["EXPOSE"] == ["11211"]
    assert instructions["STOPSIGNAL"] == ["SIGTERM"]


def test_everything_copied_exists_and_is_not_ignored(instructions: Instructions) -> None:
    sources = [word for arguments in instructions["COPY"] for word in arguments.split()[:-1]]
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for source in sources:
        assert (ROOT / source).exists(), f"{source} is copied into the image and is not there"
        assert f"!{source}" in allowed


def test_what_the_build_needs_is_copied(instructions: Instructions) -> None:
    copied = " ".join(instructions["COPY"])
    assert all(name in copied for name in ("pyproject.toml", "README.md", "LICENSE", "memcache_kv"))
    assert "pip install --no-cache-dir '.[progress]'" in instructions["RUN"][0]


def test_the_entry_point_listens_outside_and_keeps_a_journal(instructions: Instructions) -> None:
    [arguments] = instructions["ENTRYPOINT"]
    assert exec_form(arguments) == ["memcache-kv", "-l", "0.0.0.0", "--journal", "/data"]


def test_the_entry_points_arguments_are_accepted_by_the_command_line(instructions: Instructions) -> None:
    program, *arguments = exec_form(instructions["ENTRYPOINT"][0])
    scripts = (ROOT / "pyproject.toml").read_text()
    assert f'{program} = "memcache_kv.cli:main"' in scripts
    done = subprocess.run(
        [*default_command(), *arguments, "--help"], capture_output=True, text=True, cwd=ROOT, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_entry_point_starts_a_server_that_the_health_check_finds_well(
    instructions: Instructions, tmp_path: Path
) -> None:
    _, *arguments = exec_form(instructions["ENTRYPOINT"][0])
    assert arguments[:2] == ["-l", "0.0.0.0"]  # here the server listens on a loopback port instead
    local = [str(tmp_path) if word == "/data" else word for word in arguments[2:]]
    with LocalServer([*default_command(), *local]) as server:
        assert run_health_check(instructions, server.address.port) == 0


def test_the_health_check_fails_without_a_server(instructions: Instructions) -> None:
    assert run_health_check(instructions, free_port()) != 0
