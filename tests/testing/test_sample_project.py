"""A project that uses the plugin, in an environment of its own with the wheel that users get."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from memcache_kv.compiled import PURE_VARIABLE
from tests.program import environment
from tests.test_sdist import MADE, ROOT

pytestmark = pytest.mark.long

SECONDS = 300
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def run(*words: str | Path, folder: Path) -> str:
    """Run a command in a folder; return what it says, and fail when it does."""
    left_out = {"PYTHONPATH", "PYTEST_ADDOPTS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "VIRTUAL_ENV"}
    variables = environment(**{PURE_VARIABLE: "1"})  # without it, the build would take a minute
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env={name: value for name, value in variables.items() if name not in left_out},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel and what the project needs."""
    folder = tmp_path_factory.mktemp("fresh")
    shutil.copytree(ROOT, folder / "source", ignore=MADE)
    run(sys.executable, "-c", BUILD, folder, folder=folder / "source")
    [wheel] = folder.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", folder=folder)
    python = folder / "venv/bin/python"
    try:
        run(
            sys.executable, "-m", "pip", "--python", python, "install", "-q", f"{wheel}[testing]", "mypy", folder=folder
        )
    except AssertionError as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the packages that the project needs can't be installed: {reason}")
    return python


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project, in a directory of its own."""
    return shutil.copytree(ROOT / "tests/sample_project", tmp_path / "project")


@pytest.mark.timeout(SECONDS)
def test_its_tests_pass_with_the_wheel(python: Path, project: Path) -> None:
    said = run(python, "-m", "pytest", "-q", folder=project)
    assert "12 passed" in said


@pytest.mark.timeout(SECONDS)
def test_its_types_are_checked_against_those_of_the_wheel(python: Path, project: Path) -> None:
    assert "Success: no issues found in 3 source files" in run(python, "-m", "mypy", ".", folder=project)
    wrong = project / "tests/test_wrong.py"
    wrong.write_text("from memcache_kv.testing import Memcached\n\n\ndef test(memcached: Memcached) -> None:\n    ")
    with wrong.open("a") as file:
        file.write("memcached.travel('1')\n    memcached.store.set('a', 1)\n    memcached.sotre\n")
    with pytest.raises(AssertionError) as failure:
        run(python, "-m", "mypy", ".", folder=project)
    assert [line.rpartition("[")[2] for line in str(failure.value).splitlines() if "error:" in line][:3] == [
        "arg-type]",
        "arg-type]",
        "attr-defined]",
    ]
