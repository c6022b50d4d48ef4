"""The command line: memcached's flags, and ours."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from memcache_kv.config.settings import CONFIG_VARIABLE, Settings, add_options, load_settings
from memcache_kv.errors import ConfigError, MemcacheKVError, StoppedEarly
from memcache_kv.observe.log import Log
from memcache_kv.server import memory, process
from memcache_kv.server.server import Server
from memcache_kv.version import PROTOCOL_VERSION, VERSION

if TYPE_CHECKING:
    from memcache_kv.server.daemon import Background

DESCRIPTION = f"""memcached {PROTOCOL_VERSION}
memcache_kv {VERSION}: a memcached-compatible server that keeps its data in a journal."""
EPILOG = """Every flag can also come from an environment variable with its long name (MEMCACHE_KV_MEMORY_LIMIT=256)
or from a TOML file given with --config (memory-limit = 256). A flag wins over a variable, a variable over the
file.

`memcache-kv journal --help` tells of the tools for journals: verify, stats, repair, compact, export, load, restore.
`memcache-kv health --help` tells how to ask whether a server answers."""


class _Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line, and shows memcached's name first in its help."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError, instead of printing the usage and exiting."""
        raise ConfigError(f"{message}; {self.prog} --help lists the flags")

    def format_help(self) -> str:
        """Return the description, and then argparse's help."""
        return f"{DESCRIPTION}\n\n{super().format_help()}"


class _License(argparse.Action):
    """Prints the licence, and ends."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> NoReturn:
        from memcache_kv.config import license  # the text, for those alone who want to read it

        print(f"memcache_kv {VERSION}\n\n{license.TEXT}", end="")
        parser.exit()


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
    parser.add_argument("-i", "--license", action=_License, nargs=0, help="print the licence and exit")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser


def parse(arguments: Sequence[str]) -> Settings:
    """Turn a command line, the environment and a file into settings, and say what is passed over.

    Raises ConfigError.
    """
    flags = vars(make_parser().parse_args(arguments))
    config = flags.pop("config") or os.environ.get(CONFIG_VARIABLE)
    return load_settings(flags, Path(config) if config else None, warn=Log().say)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a server until a signal or `shutdown` ends it, or another command; return the exit status."""
    process.open_standard_streams()
    try:
        return _run_command(sys.argv[1:] if arguments is None else arguments)
    finally:
        process.give_up_broken_streams()


def _run_command(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["journal"]:
        from memcache_kv.journal.tools import cli  # not before: a server's start does without

        return cli.main(arguments[1:])
    if arguments[:1] == ["health"]:
        from memcache_kv.server import health

        return health.main(arguments[1:])
    try:
        return run(parse(arguments))
    except StoppedEarly:
        return 0
    except MemcacheKVError as error:
        Log().say(f"memcache-kv: {error}")
        return error.status


def run(settings: Settings) -> int:
    """Run a server with these settings until it is asked to stop; return the exit status."""
    background = _prepare_process(settings)
    service = Server(settings)
    received: list[str] = []  # said by the main thread afterwards: a handler may interrupt the log itself
    _handle_signals(service, received)
    memory.tune_memory()
    process.become_user(settings.user)
    if settings.lock_memory:  # by the user who is to run with it: a lock of root's would end what that one may take
        process.lock_memory(settings.memory_limit, service.log)
    with process.pid_file(settings.pidfile, service.log):
        try:
            service.start()
            process.warn_of_root(settings.user, service.log)
            if background is not None:
                background.ready(service.log)
            memory.freeze_startup_objects()
            _serve(service, received)
        finally:
            signal.set_wakeup_fd(-1)  # what it wakes is about to be closed; a second Ctrl-C changes nothing any more
        service.stop()
    return 1 if service.failure is not None else 0


def _prepare_process(settings: Settings) -> Background | None:
    """Do what is best done as root and while there is one thread: limits, large pages, the way into the background."""
    process.allow_files(settings.conn_limit)
    if settings.enable_coredumps:
        process.allow_core_dumps()
    if settings.enable_largepages:
        process.check_large_pages()
    if settings.lock_memory:
        process.allow_locked_memory()
    if not settings.daemon:
        return None
    from memcache_kv.server.daemon import Background

    return Background(keeps_log=settings.verbose > 0)


def _handle_signals(service: Server, received: list[str]) -> None:
    """Let SIGTERM, SIGINT and SIGUSR1 ask for the end, and note them and SIGHUP by name."""

    def note(signum: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(signum).name)
        if signum != signal.SIGHUP:
            service.stopping.set()

    signal.set_wakeup_fd(service.stopping.fileno())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
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
