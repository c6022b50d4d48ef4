"""What can be known of the image without a container engine: the file, and what its steps and commands do here."""

import fnmatch
import json
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.certificates import make_certificates
from tests.program import Image, command, environment, image_command, poll_until

ROOT = Path(__file__).resolve().parent.parent

ENVIRONMENT = "/opt/memcache_kv"
"""The virtual environment of the image."""

BUILD_PATIENCE_SECONDS = 900
"""For compiling everything, on a machine that does other work."""

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


def image_environment(instructions: Instructions, tmp_path: Path) -> dict[str, str]:
    """Give the image's variables, but for those that would reach out of the test."""
    [arguments] = instructions["ENV"]
    variables = dict(word.split("=", 1) for word in arguments.split())
    assert variables.pop("PATH") == f"{ENVIRONMENT}/bin:$PATH"
    assert variables["MEMCACHE_KV_LISTEN"] == "0.0.0.0"
    assert variables["MEMCACHED_PORT_FILENAME"].startswith("/dev/shm/")
    return environment(
        **variables
        | {"MEMCACHE_KV_LISTEN": "127.0.0.1", "MEMCACHED_PORT_FILENAME": str(tmp_path / "ports")}
        | {"MEMCACHE_KV_PORT": "tcp://10.0.0.7:11211"}  # as beside a Service called memcache-kv
    )


def run_health_check(instructions: Instructions, variables: dict[str, str]) -> int:
    """Run the health check's command as the engine would; return its status."""
    [arguments] = instructions["HEALTHCHECK"]
    program, *rest = exec_form(arguments)
    assert program == "memcache-kv"
    return subprocess.run(command(*rest), env=variables, capture_output=True, timeout=60).returncode


def test_only_known_instructions_are_used(instructions: Instructions) -> None:
    known = "FROM WORKDIR COPY RUN ENV USER EXPOSE STOPSIGNAL HEALTHCHECK ENTRYPOINT"
    assert set(instructions) == set(known.split())


def test_the_base_is_a_slim_python_the_package_supports(instructions: Instructions) -> None:
    match = re.fullmatch(r"python:3\.(\d+)-slim", instructions["FROM"][-1])
    assert match is not None
    assert int(match[1]) >= 11


def test_a_python_of_the_same_version_compiles_and_installs(instructions: Instructions) -> None:
    compiling, base = instructions["FROM"]
    assert compiling == f"{base.removesuffix('-slim')} AS build"
    assert f"--from=build {ENVIRONMENT} {ENVIRONMENT}" in instructions["COPY"]
    assert '".[auth,http,progress]"' in instructions["RUN"][0]


def test_the_server_runs_as_a_numeric_user_that_owns_the_directory_for_a_journal(instructions: Instructions) -> None:
    assert instructions["USER"] == ["11211:11211"]
    run = instructions["RUN"][-1]
    assert "groupadd --gid 11211 memcache_kv" in run
    assert re.search("useradd --uid 11211 --gid 11211 .* memcache_kv ", run)
    assert "install -d -o 11211 -g 11211 /data" in run
    assert instructions["WORKDIR"][-1] == "/data"


def test_ports_and_stop_signal_are_declared(instructions: Instructions) -> None:
    assert instructions["EXPOSE"] == ["11211 9150"]
    assert instructions["STOPSIGNAL"] == ["SIGTERM"]


def test_everything_copied_exists_and_is_not_ignored(instructions: Instructions) -> None:
    copied = [arguments for arguments in instructions["COPY"] if not arguments.startswith("--from=")]
    sources = [word for arguments in copied for word in arguments.split()[:-1]]
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for source in sources:
        assert (ROOT / source).exists(), f"{source} is copied into the image and is not there"
        assert f"!{source}" in allowed


def test_nothing_needs_a_shell_when_the_image_runs(instructions: Instructions) -> None:
    for name in ("ENTRYPOINT", "HEALTHCHECK"):
        assert exec_form(instructions[name][0])


def test_a_journal_is_kept_only_where_it_is_asked_for(instructions: Instructions) -> None:
    """A VOLUME would make /data a mount point in every container, which turns the journal on."""
    assert exec_form(instructions["ENTRYPOINT"][0]) == ["python", *image_command()[1:]]
    assert "JOURNAL" not in instructions["ENV"][0]
    assert "VOLUME" not in instructions


def test_the_program_has_the_name_that_the_image_calls() -> None:
    assert 'memcache-kv = "memcache_kv.__main__:main"' in (ROOT / "pyproject.toml").read_text()


MODES = {
    "plain": [],
    "journal": ["--journal", "{directory}/journal"],
    "text only": ["-B", "ascii"],
    "binary only": ["-B", "binary"],
    "text login": ["-Y", "{directory}/users"],
    "binary login": ["-S", "-B", "binary", "-Y", "{directory}/users"],
    "both logins": ["-S", "-Y", "{directory}/users"],
    "TLS": ["-Z", "-o", "{tls}"],
    "TLS with certificates of clients": ["-Z", "-o", "{tls},ssl_ca_cert={authority},ssl_verify_mode=2"],
    "TLS, binary login": ["-Z", "-o", "{tls}", "-S", "-B", "binary", "-Y", "{directory}/users"],
    "a unix socket beside it": ["-s", "{directory}/socket"],
}


@pytest.mark.parametrize("mode", MODES)
def test_the_health_check_finds_a_server_in_this_mode(instructions: Instructions, tmp_path: Path, mode: str) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    (tmp_path / "users").write_text("ann:secret\n")
    words = {"directory": tmp_path, "tls": certificates.suboptions, "authority": certificates.authority}
    flags = [flag.format(**words) for flag in MODES[mode]]
    variables = image_environment(instructions, tmp_path)
    with Image("-p", "0", *flags, **variables):
        poll_until((tmp_path / "ports").exists, "it has written its ports")
        assert run_health_check(instructions, variables) == 0
    assert run_health_check(instructions, variables) == 1


def copy_into_the_build(instructions: Instructions, folder: Path) -> None:
    """Copy what the COPY instructions of the first stage name, and .dockerignore does not leave out."""
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("**/")]
    patterns = [pattern.removeprefix("**/") for pattern in ignored]

    def left_out(_: str, names: list[str]) -> set[str]:
        return {name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)}

    for arguments in instructions["COPY"]:
        if arguments.startswith("--from="):
            continue
        *sources, target = arguments.split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, folder / target, ignore=left_out)
            else:
                shutil.copy(ROOT / source, folder / target)


@pytest.mark.long
@pytest.mark.timeout(BUILD_PATIENCE_SECONDS)
def test_the_steps_of_the_build_make_an_environment_that_serves(instructions: Instructions, tmp_path: Path) -> None:
    """The commands run in a clean folder, with a fresh Python of this machine in place of the image's."""
    source, made, python = tmp_path / "src", tmp_path / "opt", tmp_path / "python"
    source.mkdir()
    copy_into_the_build(instructions, source)
    venv.create(python, with_pip=True, symlinks=True)
    base = Path(sys.executable).resolve().parent
    variables = environment(PATH=f"{python / 'bin'}:{base}:/usr/bin:/bin", TMPDIR=str(tmp_path))
    step = instructions["RUN"][0].replace(ENVIRONMENT, str(made))
    subprocess.run(["sh", "-ec", step], cwd=source, env=variables, check=True)

    shutil.rmtree(source)  # the environment must not need it
    of_image = {"PATH": f"{made / 'bin'}:/usr/bin:/bin", "MEMCACHED_PORT_FILENAME": str(tmp_path / "ports")}
    version = subprocess.check_output([made / "bin" / "memcache-kv", "--version"], env=of_image, text=True)
    assert "(compiled)" in version
    entry = [str(made / "bin" / "python"), *exec_form(instructions["ENTRYPOINT"][0])[1:]]
    server = subprocess.Popen([*entry, "-p", "0", "--http-listen", "0"], cwd=tmp_path, env=of_image)
    try:
        poll_until((tmp_path / "ports").exists, "it has written its ports")
        check = exec_form(instructions["HEALTHCHECK"][0])
        assert subprocess.run([made / "bin" / check[0], *check[1:]], env=of_image, timeout=60).returncode == 0
    finally:
        server.terminate()
        assert server.wait(60) == 0
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file() and not path.is_symlink())
    assert size < 60 << 20, f"{size} bytes are copied into the image"
