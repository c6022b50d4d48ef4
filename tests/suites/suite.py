"""A suite of another project: install what it needs, run it with a server, and read its results."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import memcache_kv
from tests.closing import Closing
from tests.integration.wire import MEMCACHED, RunningServer
from tests.program import environment

PACKAGE = Path(memcache_kv.__file__).resolve().parent
POINTING = Path(__file__).resolve().parent / "pointing"
"""Modules that run inside the suites and give them the address of the server."""

INSTALL_SECONDS, RUN_SECONDS, STOP_SECONDS = 240, 240, 20
TRIES = 3
"""Runs of a suite with tests that may fail on a busy machine."""

Outcome = Literal["passed", "failed", "skipped"]
Results = dict[str, Outcome]


OURS = ("msgspec",)
"""What the server needs, which runs in the processes of the tests."""


class InstallationFailed(Exception):
    """The package index could not be asked, or did not have what a suite needs."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What of another project is run, and how."""

    project: str
    """As the package index names it."""

    version: str
    needs: tuple[str, ...]
    """What pip installs for it. The project itself is taken from its source distribution."""

    words: tuple[str, ...]
    """What follows `python`."""

    folder: str = "."
    """Where in the source distribution it is run."""

    source: str = "."
    """Where in the source distribution its packages are."""

    servers: tuple[str, ...] = ()
    """For a suite without pytest: the variables with the addresses of its servers."""

    least: int
    """Fewer tests that pass than these mean that something was not run."""

    by_speed: str = "(?!)"
    """An expression that finds the names of tests that fail on a busy machine, whatever the server."""

    parts: str = ""
    """An expression for what is taken of the source distribution, behind its folder. All by default."""

    def takes(self, path: str) -> bool:
        """Whether a file of the source distribution is needed."""
        return re.match(self.parts, path.partition("/")[2]) is not None

    def slowed(self, results: Results) -> set[str]:
        """Return the tests that failed, perhaps because of the machine."""
        return {name for name, outcome in results.items() if outcome == "failed" and re.search(self.by_speed, name)}


class Environment:
    """A virtual environment for one suite, and its source, in a folder."""

    def __init__(self, suite: Suite, folder: Path) -> None:
        """Install. Raises InstallationFailed."""
        self.suite = suite
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"
        _call(sys.executable, "-m", "venv", "--without-pip", str(folder / "venv"))
        self._pip("install", "--no-compile", "setuptools", *OURS, *suite.needs)
        self.source = self._unpacked()
        (folder / "path").mkdir()
        (folder / "path" / PACKAGE.name).symlink_to(PACKAGE)

    def _pip(self, *words: str) -> None:
        _call(sys.executable, "-m", "pip", "--python", str(self.python), "--quiet", *words)

    def _unpacked(self) -> Path:
        """Return the folder of the project's source distribution."""
        project = self.suite.project
        wanted = ("--no-deps", "--no-build-isolation", "--no-binary", project, f"{project}=={self.suite.version}")
        self._pip("download", "--dest", str(self.folder / "sdist"), *wanted)
        [archive] = (self.folder / "sdist").iterdir()
        with tarfile.open(archive) as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)  # not before 3.11.4
            tar.extractall(self.folder / "source", [member for member in tar if self.suite.takes(member.name)])
        [source] = (self.folder / "source").iterdir()
        return source

    def started(self) -> Run:
        """Start the suite with our server in the processes of its tests."""
        return Run(self, "in process", (), {})

    @contextmanager
    def started_with(self, executable: str) -> Iterator[Run]:
        """Start the suite with a program in the place of that: with pytest, under the same fixtures."""
        name = Path(executable).name
        if not self.suite.servers:
            with Run(self, name, (f"--memcached-exec={executable}",), {}) as run:
                yield run
            return
        program = [executable, *(["-u", "root"] if os.geteuid() == 0 else [])]
        with ExitStack() as running:
            addresses = {}
            for variable in self.suite.servers:
                server = running.enter_context(closing(RunningServer(MEMCACHED, program=program)))
                addresses[variable] = f"{server.host}:{server.port}"
            yield running.enter_context(Run(self, name, (), addresses))


class Run(Closing):
    """The suite while it runs, until `close`."""

    def __init__(self, home: Environment, name: str, words: tuple[str, ...], variables: dict[str, str]) -> None:
        suite = home.suite
        self.name = name
        self._report = home.folder / f"{name}.xml"
        self._log = home.folder / f"{name}.log"
        self._is_pytest = not suite.servers
        self._report.unlink(missing_ok=True)
        if self._is_pytest:
            words = (f"--junitxml={self._report}", *words)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(home.python), *suite.words, *words],
                cwd=home.source / suite.folder,
                env=_environment(home.folder / "path", POINTING, home.source / suite.source) | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def results(self) -> Results:
        """Wait for its end; return what became of each test."""
        self._process.wait(RUN_SECONDS)
        results = self._read()
        assert results, self.said()
        return results

    def _read(self) -> Results:
        if not self._is_pytest:
            return unittest_results(self.said())
        return junit_results(self._report.read_text()) if self._report.exists() else {}

    def close(self) -> None:
        """End it as Ctrl-C does, so that it stops its servers."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self._process.kill()
        self._process.wait()

    def said(self) -> str:
        """Return what it has printed."""
        return self._log.read_text(errors="replace")


def junit_results(report: str) -> Results:
    """Read pytest's report; a module that can't be imported is a test that failed."""
    results: Results = {}
    for case in ElementTree.fromstring(report).iter("testcase"):
        found = {part.tag for part in case}
        outcome: Outcome = "failed" if found & {"failure", "error"} else "skipped" if "skipped" in found else "passed"
        results[f"{case.get('classname')}::{case.get('name')}"] = outcome
    return results


UNITTEST_LINE = re.compile(
    r"^\w+ \((?P<test>[\w.]+)\)(?:\n.*)?? \.\.\. (?P<outcome>ok|FAIL|ERROR|skipped|expected failure)", re.MULTILINE
)
UNITTEST_OUTCOMES: dict[str, Outcome] = {
    "ok": "passed",
    "expected failure": "passed",
    "skipped": "skipped",
    "FAIL": "failed",
    "ERROR": "failed",
}


def unittest_results(said: str) -> Results:
    """Read what unittest prints with -v 2."""
    return {match["test"]: UNITTEST_OUTCOMES[match["outcome"]] for match in UNITTEST_LINE.finditer(said)}


def _environment(*paths: Path) -> dict[str, str]:
    """This process's environment without what it tells Python and pytest, and with these paths."""
    kept = {name: value for name, value in environment().items() if not name.startswith(("PYTHON", "PYTEST"))}
    return kept | {"PYTHONPATH": os.pathsep.join(map(str, paths))}


def _call(*words: str) -> None:
    """Run a program to its end. Raises InstallationFailed."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    if done.returncode:
        raise InstallationFailed(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
