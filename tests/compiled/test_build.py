"""Installations with compiled modules and without: what they say, what they load, and that they work."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from memcache_kv.compiled import ACCELERATED, FLAVOR, PURE_VARIABLE
from memcache_kv.compiled import __file__ as compiled_file
from tests.program import PATIENCE_SECONDS, Program, run_to_its_end
from tests.test_sdist import MADE
from tests.test_start import PROFILED, named_in

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD_SECONDS = 120.0

if_compiled = pytest.mark.skipif(not ACCELERATED, reason="the compiled modules are not in use")


# What a process says and loads


def statistic(program: Program, name: str) -> str:
    with socket.create_connection(("127.0.0.1", program.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(b"stats memcache_kv\r\nquit\r\n")
        lines = connection.makefile("rb").read().decode().splitlines()
    [value] = [line.split()[2] for line in lines if line.startswith(f"STAT {name} ")]
    return value


def compiled_modules(said: bytes) -> set[str]:
    return {name for name in named_in(said) if name.startswith("memcache_kv.compiled.")}


def uses(tmp_path: Path, **variables: str) -> tuple[str, str, set[str]]:
    """What `--version` and the log, what the statistic, and what the imports of a server with a journal say."""
    version = run_to_its_end("--version", **variables).stdout.splitlines()[1]
    with Program(
        "-p", "0", "-l", "127.0.0.1", "--journal", str(tmp_path / "journal"), **variables, **PROFILED
    ) as server:
        assert version in server.said.decode().splitlines()
        assert server.ask(b"set key 0 0 5\r\nvalue\r\n") == b"STORED\r\n"
        accelerated = statistic(server, "memcache_kv_accelerated")
        assert server.end() == 0
    return version.partition(" (")[2], accelerated, compiled_modules(server.said)


@if_compiled
def test_a_server_uses_the_compiled_modules_and_says_so(tmp_path: Path) -> None:
    said, accelerated, modules = uses(tmp_path)
    assert (said, accelerated) == ("compiled)", "1")
    assert "memcache_kv.compiled.journal_encoder" in modules


def test_with_the_variable_it_imports_nothing_compiled_and_says_so(tmp_path: Path) -> None:
    assert uses(tmp_path, **{PURE_VARIABLE: "1"}) == ("pure Python)", "0", set())


def test_the_variable_has_one_value_that_counts(tmp_path: Path) -> None:
    for value in ("", "0"):
        assert uses(tmp_path, **{PURE_VARIABLE: value})[0] == ("compiled)" if is_built() else "pure Python)")


def is_built() -> bool:
    return any(Path(compiled_file).parent.glob("*.so"))


def test_the_build_reads_the_same_variable() -> None:
    assert f'os.environ.get("{PURE_VARIABLE}") == "1"' in Path(compiled_file).with_name("build.py").read_text()
    assert ("compiled" if ACCELERATED else "pure Python") == FLAVOR


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this interpreter always has a lock")
def test_on_a_free_threaded_interpreter_nothing_turns_the_interpreter_lock_on(tmp_path: Path) -> None:
    flags = ("-p", "0", "-l", "127.0.0.1", "--journal", str(tmp_path / "journal"))
    with Program(*flags, PYTHONWARNINGS="error", PYTHON_GIL="", **PROFILED) as server:
        assert server.ask(b"set key 0 0 5\r\nvalue\r\n") == b"STORED\r\n"
        assert server.end() == 0
    assert b"global interpreter lock" not in server.said
    expected = {"journal_decoder", "journal_encoder"} if ACCELERATED else set()
    assert compiled_modules(server.said) == {f"memcache_kv.compiled.{name}" for name in expected}


def can_compile() -> bool:
    """Tell whether there are a compiler, as an installation would find it, and Python's headers."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    include = [f"-I{sysconfig.get_path(name)}" for name in ("include", "platinclude")]
    try:
        checked = subprocess.run(
            [*compiler, *include, "-fsyntax-only", "-x", "c", "-"],
            input=b"#include <Python.h>\n",
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    except OSError:
        return False
    return checked.returncode == 0


def test_in_ci_the_modules_are_compiled_where_they_can_be() -> None:
    """An installation goes on after an error in a module's source, so that this has to tell of it."""
    if not os.environ.get("CI"):
        pytest.skip("an installation without compiled modules is an error in CI only")
    if not can_compile():
        pytest.skip("no C compiler, or no headers of Python")
    assert is_built(), "the modules were not compiled: `pip install -v .` says why"


# Installations


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the files that are installed, without what an installation leaves."""
    copy = tmp_path / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "memcache_kv", copy / "memcache_kv", ignore=MADE)
    return copy


class Installed(Program):
    """A server of the package that PYTHONPATH names first."""

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "memcache_kv", *arguments]


class Installation:
    """The package, installed in a folder of its own with the packages that are here. `said` is the build's output."""

    def __init__(self, source: Path, folder: Path, **variables: str) -> None:
        self.folder = folder
        here = (sys.executable, "-m", "pip", "install", "-v", "--no-build-isolation", "--no-deps", "--no-index")
        clean = {name: value for name, value in os.environ.items() if name != PURE_VARIABLE}
        done = subprocess.run(
            [*here, "--target", str(folder), str(source)],
            env=clean | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        self.said = done.stdout
        assert done.returncode == 0, self.said

    @property
    def modules(self) -> list[Path]:
        return list(self.folder.rglob("*.so"))

    def works(self, flavor: str, directory: Path) -> None:
        """Check that a server keeps an item over a restart, and says what it uses."""
        variables = {"PYTHONPATH": str(self.folder), PURE_VARIABLE: ""}
        flags = ("-p", "0", "-l", "127.0.0.1", "--journal", str(directory))
        for request, reply in ((b"set a 0 0 5\r\nvalue\r\n", b"STORED\r\n"), (b"get a\r\n", b"VALUE a 0 5\r\n")):
            with Installed(*flags, **variables) as server:
                assert f"({flavor})" in server.said.decode()
                assert server.ask(request) == reply
                assert server.end() == 0


@pytest.mark.long
@pytest.mark.timeout(BUILD_SECONDS + PATIENCE_SECONDS)
@pytest.mark.parametrize(
    ("variables", "flavor"),
    [
        pytest.param({}, "compiled", marks=if_compiled),
        ({"CC": "/bin/false"}, "pure Python"),
        ({"CC": "/nonexistent/cc"}, "pure Python"),
        ({PURE_VARIABLE: "1"}, "pure Python"),
    ],
    ids=["a compiler", "a broken compiler", "no compiler", "none wanted"],
)
def test_an_installation_works_and_its_build_says_in_one_line_when_nothing_was_compiled(
    source: Path, tmp_path: Path, variables: dict[str, str], flavor: str
) -> None:
    made = Installation(source, tmp_path / "installed", **variables)
    lines = [line for line in made.said.splitlines() if "memcache_kv is installed as pure Python" in line]
    assert bool(made.modules) == (flavor == "compiled")
    assert len(lines) == (flavor != "compiled")
    made.works(flavor, tmp_path / "journal")


@pytest.mark.long
@pytest.mark.timeout(BUILD_SECONDS + PATIENCE_SECONDS)
@pytest.mark.parametrize("error", ["cdef int = = 1\n", 'cdef extern from "no_such_header.h":\n    int missing\n'])
def test_an_error_in_a_source_leaves_an_installation_without_compiled_modules(
    source: Path, tmp_path: Path, error: str
) -> None:
    with (source / "memcache_kv/compiled/journal_decoder.pyx").open("a") as file:
        file.write(error)
    made = Installation(source, tmp_path / "installed")
    assert not made.modules
    assert made.said.count("memcache_kv is installed as pure Python") == 1


@pytest.mark.long
@pytest.mark.timeout(BUILD_SECONDS + PATIENCE_SECONDS)
@if_compiled
def test_what_an_earlier_build_left_is_not_installed_where_nothing_compiled_is_wanted(
    source: Path, tmp_path: Path
) -> None:
    assert Installation(source, tmp_path / "first").modules
    second = Installation(source, tmp_path / "second", **{PURE_VARIABLE: "1"})
    assert not second.modules
    assert re.search("filename=memcache_kv-.*-py3-none-any.whl", second.said)
