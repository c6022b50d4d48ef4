"""Run the examples of a page of the documentation, one after the other, as a reader would.

What a code block is, its info string says:

- `sh`: commands that end by themselves, with status 0;
- `sh server`: a server, in a terminal of its own; it is stopped before the page's next server starts;
- `sh untested` and `python untested`: what a test can't run; `haproxy`, `nginx`, `yaml`, `lua`, `json` and `ini` are
  settings of other programs, `toml` of ours;
- `python`: statements, which share their names with those of the page's other blocks;
- `python FILE`: what the reader writes into a file;
- nothing: what the block before it prints, with `…` for what differs from run to run.

Each page has a directory of its own. The ports 11211, 11212, 8080 and 9150 stand for free ones. `python3 -m venv` and
`pip install` install nothing: the virtual environment is the one that runs the tests, and what a page installs has to
be there.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from markdown_it import MarkdownIt

from memcache_kv.compiled import FLAVOR
from tests.ports import free_port
from tests.program import PATIENCE_SECONDS, environment

WRITTEN = re.compile(r"python (\w+\.py)")
"""A block that is written into a file."""
PORTS = ("11211", "11212", "8080", "9150")
NETCAT = (
    f"#!{sys.executable}\n"
    + """\
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
    connection.sendall(sys.stdin.buffer.read())
    while piece := connection.recv(65536):
        sys.stdout.buffer.write(piece)
"""
)
"""What the pages need of nc, as there are several programs of that name and machines without any."""
VENV = f"""\
#!/bin/sh
if [ "$1 $2" != "-m venv" ]; then exec {sys.executable} "$@"; fi
mkdir -p "$3/bin"
for program in {Path(sys.executable).parent}/*; do ln -sf "$program" "$3/bin/"; done
ln -sf "$(command -v pip)" "$3/bin/pip"
echo ":" > "$3/bin/activate"
"""
"""In place of python3: makes an environment with the programs of the one that runs the tests."""
PIP = (
    f"#!{sys.executable}\n"
    + """\
import re, sys
from importlib.metadata import distribution
command, *words = sys.argv[1:]
assert command == "install", command
ours = distribution("memcache_kv")
for word in words:
    if not word.startswith("-"):
        name, extras = re.fullmatch(r"([\\w.-]+)(?:\\[([\\w,-]+)\\])?", word).groups()
        assert name == "." or distribution(name), word
        assert set(extras.split(",") if extras else []) <= set(ours.metadata.get_all("Provides-Extra")), word
"""
)
"""In place of pip: fails where what it is to install is not there, or we have no such extra."""
PROGRAMS = {"nc": NETCAT, "python3": VENV, "pip": PIP}


class PageFault(AssertionError):
    """An example that does not do what its page says."""


class Block(NamedTuple):
    """A code block: its info string, and its lines."""

    kind: str
    text: str


def blocks_of(path: Path) -> list[Block]:
    """Read the code blocks of a page."""
    tokens = MarkdownIt("commonmark").parse(path.read_text())
    return [Block(token.info.strip(), token.content) for token in tokens if token.type in ("fence", "code_block")]


class Terminal:
    """A server in the background, and what it has said."""

    def __init__(self, command: str, folder: Path, variables: dict[str, str]) -> None:
        self.command = command
        self.said = ""
        self._process = subprocess.Popen(
            ["bash", "-c", command], cwd=folder, env=variables, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.stop()
            raise

    def _wait_until_it_listens(self) -> None:
        assert self._process.stderr is not None
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not re.search("^listening on .*\n", self.said, re.MULTILINE):
            if time.monotonic() > give_up_at:
                raise PageFault(f"{self.command} did not listen; it said {self.said!r}")
            if select.select([self._process.stderr], [], [], 1.0)[0]:
                piece = os.read(self._process.stderr.fileno(), 65536)
                if not piece:
                    raise PageFault(f"{self.command} ended; it said {self.said!r}")
                self.said += piece.decode()

    def stop(self) -> None:
        """Stop it as Ctrl-C does, where it still runs."""
        self._signal(signal.SIGINT)
        try:
            self._process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.communicate()

    def _signal(self, signum: int) -> None:
        """Send a signal to the server, and to the shell that runs it where the command has several parts."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signum)


class Page:
    """One page with the directory, the ports and the server of its examples."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._blocks = blocks_of(path)
        self._folder = folder / "page"
        self._programs = folder / "programs"
        self._folder.mkdir()
        self._programs.mkdir()
        for name, text in PROGRAMS.items():
            (self._programs / name).write_text(text)
            (self._programs / name).chmod(0o755)
        self._ports = {port: str(free_port()) for port in PORTS}
        self._names: dict[str, object] = {}
        self._server: Terminal | None = None
        self._printed: str | None = None

    @property
    def folder(self) -> Path:
        """The directory in which the examples run."""
        return self._folder

    def run(self) -> int:
        """Run all examples; return how many there were. Raises PageFault."""
        return sum(self._run_block(block.kind, self._with_free_ports(block.text)) for block in self._blocks)

    def _run_block(self, info: str, text: str) -> int:
        if info == "":
            self._compare(text)
            return 0
        self._printed = None
        match info:
            case "sh":
                self._printed = self.shell(text)
            case "sh server":
                self._start(text.strip())
            case "python":
                self._printed = self._python(text)
            case (
                "sh untested"
                | "python untested"
                | "haproxy"
                | "nginx"
                | "yaml"
                | "lua"
                | "json"
                | "toml"
                | "ini"
                | "text"
            ):
                return 0
            case _ if WRITTEN.fullmatch(info):
                (self._folder / info.removeprefix("python ")).write_text(text)
            case _:
                raise PageFault(f"no such kind of block: {info}")
        return 1

    def _with_free_ports(self, text: str) -> str:
        return re.sub(rf"\b(?:{'|'.join(PORTS)})\b", lambda match: self._ports[match[0]], text)

    def _variables(self) -> dict[str, str]:
        """An environment as after the tutorial's installation, where a server has this page's port.

        pytest has no plugin but ours in it, and knows nothing of a CI, where it prints more.
        """
        programs = os.pathsep.join([str(self._programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        plugins = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-p memcache_kv -p no:cacheprovider"}
        variables = environment(PATH=programs, MEMCACHE_KV_PORT=self._ports["11211"], TZ="UTC", **plugins)
        return {name: value for name, value in variables.items() if name not in ("CI", "BUILD_NUMBER")}

    def shell(self, text: str) -> str:
        """Run commands as the page's reader would; return what they print. Raises PageFault."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text], cwd=self._folder, env=self._variables(), capture_output=True,
            text=True, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise PageFault(f"{text}ended with status {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def _start(self, command: str) -> None:
        self._stop()
        self._server = Terminal(command, self._folder, self._variables())
        self._printed = self._server.said

    def _python(self, text: str) -> str:
        printed, here = io.StringIO(), Path.cwd()
        os.chdir(self._folder)
        try:
            with contextlib.redirect_stdout(printed):
                exec(text, self._names)
        finally:
            os.chdir(here)
        return printed.getvalue()

    def _compare(self, expected: str) -> None:
        """Look for the lines of a block in what was printed, in a row. The pages show a server that is compiled."""
        if self._printed is None:
            return
        expected = expected.replace("(compiled)", f"({FLAVOR})")
        pattern = re.escape(expected.strip()).replace("…", ".*")
        printed = self._printed.replace("\r\n", "\n")
        if not re.search(f"^{pattern}$", printed, re.MULTILINE):
            raise PageFault(f"the page says\n{expected}\nand it was\n{printed}")

    def _stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
