"""Clients from npm, against both servers: run where NODE_CLIENTS=1 asks for them and node is installed."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.sasl import OTHER_PASSWORD, OTHER_USER, sasl_server
from tests.integration.wire import RunningServer

SCRIPTS = Path(__file__).parent.parent / "node"

INSTALL_SECONDS, RUN_SECONDS = 300, 60

if os.environ.get("NODE_CLIENTS") != "1":
    pytest.skip("NODE_CLIENTS=1 runs the clients from npm", allow_module_level=True)
if shutil.which("node") is None or shutil.which("npm") is None:
    pytest.skip("node is not installed", allow_module_level=True)


def run(*command: str, folder: Path, seconds: float) -> str:
    """Run a program in a folder; return what it says, and fail when it does."""
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The scripts, with the clients installed beside them."""
    folder = tmp_path_factory.mktemp("node")
    shutil.copytree(SCRIPTS, folder, dirs_exist_ok=True)
    run("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", folder=folder, seconds=INSTALL_SECONDS)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.timeout(INSTALL_SECONDS + RUN_SECONDS)
@pytest.mark.parametrize("script", ["memcached_text.js", "memjs_binary.js"])
def test_a_client_gets_what_it_expects(server: RunningServer, scripts: Path, script: str) -> None:
    said = run("node", script, f"{server.host}:{server.port}", folder=scripts, seconds=RUN_SECONDS)
    assert said == "passed\n"


@pytest.mark.timeout(INSTALL_SECONDS + RUN_SECONDS)
@pytest.mark.parametrize("words", [(OTHER_PASSWORD,), ("wrong", "refused")], ids=["right", "wrong"])
def test_memjs_logs_in_with_the_right_password_alone(
    kind: str, scripts: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    with sasl_server(kind, tmp_path) as server:
        where = f"{server.host}:{server.port}"
        said = run("node", "memjs_binary.js", where, OTHER_USER, *words, folder=scripts, seconds=RUN_SECONDS)
    assert said == "passed\n"
