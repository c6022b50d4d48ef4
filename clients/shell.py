"""Talk to a memcached-compatible server by hand, in its raw protocol or through pymemcache."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from clients.access import Access, access_from, add_access_options
from clients.address import Address, cannot_connect, parse_address
from clients.line_input import LineInput, history_path, kept_history, stdin_lines
from clients.requirements import what_to_install
from clients.tcp_mode import ConnectionLostError, TcpMode

MODES = ("tcp", "memcached")

EXAMPLES = """\
examples:
  python clients/shell.py                            raw protocol, server at 127.0.0.1:11211
  python clients/shell.py memcached                  pymemcache calls: set greeting "good day" 60
  python clients/shell.py --mode tcp cache.example:11211
  python clients/shell.py tcp /run/memcache_kv.sock  a unix socket
  python clients/shell.py --ca ca.pem --user ann cache.example:11211   TLS, and a login
  printf 'set k 0 0 5\\nhello\\nget k\\n' | python clients/shell.py

On a terminal the shell stays when the connection is lost, and every request tries to open a new one.

exit status: 0 at the end of the input or `quit`, 1 when no connection can be opened (at the start, or while reading
from a pipe), 2 for a wrong option, 130 for Ctrl-C while reading from a pipe. The line history is kept in
$XDG_STATE_HOME/memcache_kv/ (~/.local/state/memcache_kv/)."""

COMMON_HELP = """\
The shell's own words: help, mode [tcp|memcached], quit (or Ctrl-D). Ctrl-C gives up the current line."""


class Mode(Protocol):
    """Run lines against the server in one way."""

    name: str
    help: str

    def connect(self) -> None:
        """Open the connection; raise OSError when nobody answers."""

    def close(self) -> None:
        """Close the connection."""

    def run(self, line: bytes, source: LineInput) -> None:
        """Run one line; raise ConnectionLostError or OSError."""


class Shell:
    """Read lines, keep the shell's own words and hand the others to the current mode."""

    def __init__(self, access: Access, mode_name: str, timeout_seconds: float, source: LineInput) -> None:
        self._access = access
        self._timeout_seconds = timeout_seconds
        self._source = source
        self._mode = self._new_mode(mode_name)

    def run(self) -> int:
        """Run until the input ends; return the exit status."""
        try:
            self._mode.connect()
            self._greet()
            while self._step():
                pass
        except OSError as error:
            print(cannot_connect(self._access.address, error), file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            self._mode.close()
        return 0

    def _step(self) -> bool:
        """Read and run one line; return False when it was the last."""
        try:
            line = self._source.read_line(f"{self._mode.name}> ")
            return line is not None and self._run_line(line)
        except ConnectionLostError as error:
            show(str(error))
        except OSError as error:
            if not self._source.interactive:
                raise
            show(f"{cannot_connect(self._access.address, error)}; the next request tries again")
        except KeyboardInterrupt:
            if not self._source.interactive:
                raise
            print()
        return True

    def _run_line(self, line: bytes) -> bool:
        words = line.split()
        if words == [b"quit"]:
            return False
        if words == [b"help"]:
            show(f"{self._mode.help}\n{COMMON_HELP}")
        elif words[:1] == [b"mode"]:
            self._change_mode([word.decode("utf-8", "replace") for word in words[1:]])
        elif words:
            self._mode.run(line, self._source)
        return True

    def _change_mode(self, words: list[str]) -> None:
        if not words:
            show(f"mode {self._mode.name}; `mode tcp` or `mode memcached` changes it")
        elif len(words) > 1 or words[0] not in MODES:
            show("usage: mode [tcp|memcached]")
        else:
            try:
                mode = self._new_mode(words[0])
            except ModuleNotFoundError as error:
                show(what_to_install(error))
                return
            self._mode.close()
            self._mode = mode
            self._mode.connect()

    def _new_mode(self, name: str) -> Mode:
        if name == "tcp":
            return TcpMode(self._access, self._timeout_seconds, show)
        from clients.memcached_mode import MemcachedMode  # tcp mode works without pymemcache

        return MemcachedMode(self._access, self._timeout_seconds, show)

    def _greet(self) -> None:
        if self._source.interactive:
            show(f"Connected to {self._access.address}. `help` lists what can be typed, `quit` or Ctrl-D ends.")


def show(text: str) -> None:
    """Print a reply at once, also into a pipe."""
    print(printable(text), flush=True)


def printable(text: str) -> str:
    r"""Escape what a terminal would act on, such as \x1b, but for line ends and tabs: anybody may have stored it."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; mode and address may stand in either order."""
    parser = argparse.ArgumentParser(
        prog="shell.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="tcp|memcached|ADDRESS",
        help="the mode (default tcp), and HOST:PORT or a unix socket's path (default 127.0.0.1:11211)",
    )
    parser.add_argument("--mode", choices=MODES, help="the mode, as an option")
    parser.add_argument(
        "--timeout",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="how long to wait for a reply (default 5)",
    )
    add_access_options(parser)
    options = parser.parse_args(arguments)
    _place_words(parser, options)
    return options


def _place_words(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Sort the free words into mode and address, and add to the address how it is reached."""
    modes = [word for word in options.words if word in MODES]
    addresses = [word for word in options.words if word not in MODES]
    if len(modes) > 1 or len(addresses) > 1 or (modes and options.mode not in (None, modes[0])):
        parser.error("give one mode and one address at most")
    options.mode = options.mode or (modes[0] if modes else "tcp")
    try:
        address = parse_address(addresses[0]) if addresses else Address()
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    options.access = access_from(parser, options, address)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the shell; return its exit status."""
    options = parse_arguments(arguments)
    source = stdin_lines()
    history = kept_history(history_path()) if source.interactive else contextlib.nullcontext()
    try:
        with history:
            return Shell(options.access, options.mode, options.timeout, source).run()
    except ModuleNotFoundError as error:
        print(what_to_install(error), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
