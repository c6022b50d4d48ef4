"""The source distribution: it holds the whole repository, and its tests can run."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parent.parent
MADE = shutil.ignore_patterns(
    "__pycache__", "*.py[cod]", "*.so", "*.egg-info", "PKG-INFO", "build", "dist", "data", ".git", ".venv",
    ".coverage*", ".hypothesis", ".*_cache",
)  # fmt: skip
"""What a clone gets by being used, and what a source distribution has beside the repository's files."""

NOBODY = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
BUILD_SECONDS, COLLECT_SECONDS = 120, 120

BUILD = """
import sys
from setuptools import build_meta
build_meta.build_sdist(sys.argv[1])
"""


def run(*words: str, folder: Path, seconds: float) -> str:
    """Run Python in a folder; return what it says, and fail when it does."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository's files, all of them known to git: the distribution holds what git tracks."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    copy = tmp_path_factory.mktemp("source") / "memcache_kv"
    shutil.copytree(ROOT, copy, ignore=MADE)
    for words in (["init", "-q"], ["add", "-A"], [*NOBODY, "commit", "-q", "--no-gpg-sign", "-m", "all"]):
        subprocess.run(["git", *words], cwd=copy, check=True, capture_output=True)
    return copy


@pytest.fixture(scope="module")
def unpacked(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution made of that copy, unpacked."""
    made, unpacked = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("unpacked")
    run("-c", BUILD, str(made), folder=source, seconds=BUILD_SECONDS)
    [archive] = made.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)  # not before 3.11.4
        tar.extractall(unpacked)
    [folder] = unpacked.iterdir()
    return folder


def files_in(folder: Path) -> set[str]:
    """The files in a folder, but for what a build leaves there."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    left = {".git", "__pycache__"}
    return {str(path) for path in paths if left.isdisjoint(path.parts) and not path.parts[0].endswith(".egg-info")}


@pytest.mark.timeout(BUILD_SECONDS)
def test_it_holds_every_file_of_the_repository(source: Path, unpacked: Path) -> None:
    assert files_in(source) <= files_in(unpacked)
    assert files_in(unpacked) - files_in(source) == {"PKG-INFO"}


@pytest.mark.timeout(BUILD_SECONDS)
def test_its_description_has_no_link_that_leads_nowhere_on_an_index_page(unpacked: Path) -> None:
    description = (unpacked / "PKG-INFO").read_text().partition("\n\n")[2]
    assert description.startswith("# memcache_kv")
    assert re.findall(r"\]\((?!https?://)[^)]*\)", description) == []


@pytest.mark.timeout(BUILD_SECONDS + COLLECT_SECONDS)
def test_its_tests_find_all_that_they_import(unpacked: Path) -> None:
    collect = ("-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", "-m", "", "tests")
    said = run(*collect, folder=unpacked, seconds=COLLECT_SECONDS)
    assert "tests/test_sdist.py::" in said
