"""The command line: memcached's flags, and ours."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from memcache_kv.config.settings import Settings, add_options, load_settings
from memcache_kv.errors import ConfigError, MemcacheKVError, StoppedEarly
from memcache_kv.server import memory, process
from memcache_kv.server.server import Server
from memcache_kv.version import PROTOCOL_VERSION, VERSION

DESCRIPTION = f"""memcached {PROTOCOL_VERSION}
memcache_kv {VERSION}: a memcached-compatible server that keeps its data in a journal."""
EPILOG = """Every flag can also come from an environment variable with its long name (MEMCACHE_KV_MEMORY_LIMIT=256)
or from a TOML file given with --config (memory-limit = 256). A flag wins over a variable, a variable over the
file.

`memcache-kv journal --help` tells of the tools for journals: verify, stats, repair, compact, export, load, restore."""


class _Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line, and shows memcached's name first in its help."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError, instead of printing the usage and exiting."""
        raise ConfigError(f"{message}; {self.prog} --help lists the flags")

    def format_help(self) -> str:
        """Return the description, and then argparse's help."""
        return f"{DESCRIPTION}\n\n{super().format_help()}"


def _draft(prog: str) -> argparse.HelpFormatter:
    """Make what argparse tries each new flag with; told a width, it does not load shutil to ask the terminal for it."""
    return argparse.HelpFormatter(prog, width=80)


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all flags."""
    parser = _Parser(
        prog="memcache-kv", epilog=EPILOG, add_help=False, allow_abbrev=False, formatter_class=_draft,
    )  # fmt: skip
    add_options(parser)
    parser.add_argument("--config", metavar="FILE", help="read settings from this TOML file")
    parser.add_argument("-h", "--help", action="help", help="print this help and exit", default=argparse.SUPPRESS)
    parser.add_argument(
        "-V",
        "--version",
        action="version",
        version=f"memcached {PROTOCOL_VERSION}\nmemcache_kv {VERSION}",
        help="print the versions and exit",
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser


def parse(arguments: Sequence[str]) -> Settings:
    """Turn a command line, the environment and a file into settings. Raises ConfigError."""
    flags = vars(make_parser().parse_args(arguments))
    config = flags.pop("config") or os.environ.get("MEMCACHE_KV_CONFIG")
    return load_settings(flags, Path(config) if config else None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a server until SIGTERM, SIGINT or `shutdown`, or a command for a journal; return the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["journal"]:
        from memcache_kv.journal.tools import cli  # not before: a server's start does without

        return cli.main(arguments[1:])
    try:
        settings = parse(arguments)
        return run(settings)
    except StoppedEarly:
        return 0
    except ConfigError as error:
        print(f"memcache-kv: {error}", file=sys.stderr)
        return error.status
    except MemcacheKVError as error:
        print(f"memcache-kv: {error}", file=sys.stderr)
        return 1


def run(settings: Settings) -> int:
    """Run a server with these settings until it is asked to stop; return the exit status."""
    _prepare_process(settings)
    service = Server(settings)
    received: list[str] = []  # said by the main thread afterwards: a handler may interrupt the log itself
    _handle_signals(service, received)
    memory.tune_memory()
    if settings.lock_memory:
        process.lock_memory(service.log)
    process.become_user(settings.user)
    with process.pid_file(settings.pidfile):
        try:
            service.start()
            memory.freeze_startup_objects()
            _serve(service, received)
        finally:
            signal.set_wakeup_fd(-1)  # what it wakes is about to be closed; a second Ctrl-C changes nothing any more
        service.stop()
    return 1 if service.failure is not None else 0


def _prepare_process(settings: Settings) -> None:
    """Do what is best done while there is one thread: limits, large pages, the way into the background."""
    process.allow_files(settings.conn_limit)
    if settings.enable_coredumps:
        process.allow_core_dumps()
    if settings.enable_largepages:
        process.check_large_pages()
    if settings.daemon:
        process.become_daemon()


def _handle_signals(service: Server, received: list[str]) -> None:
    """Let SIGTERM and SIGINT ask for the end, and note them and SIGHUP by name."""

    def note(signum: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(signum).name)
        if signum != signal.SIGHUP:
            service.stopping.set()

    signal.set_wakeup_fd(service.stopping.fileno())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, note)


def _serve(service: Server, received: list[str]) -> None:
    """Wait until somebody asks for the end, and do meanwhile what signals ask for."""
    stopping = False
    while not stopping:
        stopping = service.stopping.wait()
        while received:
            name = received.pop(0)
            if name == "SIGHUP":
                service.reload()
            else:
                service.log.event(f"Signal handled: {name}.")


if __name__ == "__main__":
    sys.exit(main())
