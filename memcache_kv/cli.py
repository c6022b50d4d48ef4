"""The command line: parse the flags, prepare the process and run a server until a signal ends it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from memcache_kv.compiled import FLAVOR
from memcache_kv.config.loading import CONFIG_VARIABLE, add_options, load_settings
from memcache_kv.config.settings import Settings
from memcache_kv.errors import ConfigError, MemcacheKVError, StoppedEarly
from memcache_kv.observe.log_form import Level
from memcache_kv.observe.log_setup import make_log
from memcache_kv.server import memory, process
from memcache_kv.server.memory_plan import memory_plan
from memcache_kv.server.notifier import Notifier, Supervision
from memcache_kv.server.run import ServerRun, default_threads
from memcache_kv.streams import discard_broken_streams
from memcache_kv.version import PROTOCOL_VERSION, VERSION

if TYPE_CHECKING:
    from memcache_kv.server.activation import Inherited
    from memcache_kv.server.daemon import Background

DESCRIPTION = f"""memcached {PROTOCOL_VERSION}
memcache_kv {VERSION}: a memcached-compatible server that keeps its data in a journal."""
EPILOG = """Every flag can also come from an environment variable with its long name (MEMCACHE_KV_MEMORY_LIMIT=256)
or from a file given with --config, in TOML (memory-limit = 256) or with a flag a line (-m 256), as in
/etc/memcached.conf. A flag wins over a variable, a variable over the file.

`memcache-kv journal --help` lists the tools for journals: verify, stats, repair, compact, export, load, restore.
`memcache-kv health --help` describes how to check that a server answers.
`memcache-kv replay --help` describes how to compare this server with another one."""


class _Parser(argparse.ArgumentParser):
    """An argument parser that reports an error in one line, and whose help begins with memcached's version."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError instead of printing the usage and exiting."""
        raise ConfigError(f"{message}; {self.prog} --help lists the flags")

    def format_help(self) -> str:
        """Return the description followed by argparse's help."""
        return f"{DESCRIPTION}\n\n{super().format_help()}"


class _License(argparse.Action):
    """Prints the licence and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> NoReturn:
        from memcache_kv.config import license  # only this flag needs the text

        print(f"memcache_kv {VERSION}\n\n{license.TEXT}", end="")
        parser.exit()


def _fixed_width_formatter(prog: str) -> argparse.HelpFormatter:
    """Make the formatter with which argparse checks each new flag. With a fixed width it need not import shutil."""
    return argparse.HelpFormatter(prog, width=80)


def make_parser() -> argparse.ArgumentParser:
    """Make a parser with all flags of the server."""
    parser = _Parser(
        prog="memcache-kv", epilog=EPILOG, add_help=False, allow_abbrev=False, formatter_class=_fixed_width_formatter,
    )  # fmt: skip
    add_options(parser)
    parser.add_argument("--config", metavar="FILE", help="read settings from this TOML file or memcached.conf")
    parser.add_argument("-h", "--help", action="help", help="print this help and exit", default=argparse.SUPPRESS)
    parser.add_argument(
        "-V",
        "--version",
        action="version",
        version=f"memcached {PROTOCOL_VERSION}\nmemcache_kv {VERSION} ({FLAVOR})",
        help="print the versions, and whether compiled modules are in use, and exit",
    )
    parser.add_argument(
        "--memory-plan",
        action="store_true",
        help="print how much memory a server with these settings may take, part by part, and exit",
    )
    parser.add_argument("-i", "--license", action=_License, nargs=0, help="print the licence and exit")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser


def parse(arguments: Sequence[str]) -> Settings:
    """Return the settings from the arguments, the environment and the file; log what is ignored.

    Raises ConfigError.
    """
    return _parse(arguments)[0]


def _parse(arguments: Sequence[str]) -> tuple[Settings, bool]:
    """Return the settings, and whether to print the memory plan instead of starting a server."""
    try:
        flags = vars(make_parser().parse_args(arguments))
    except BrokenPipeError:  # nobody reads the help, the version or the licence
        sys.exit(0)
    wants_plan = flags.pop("memory_plan")
    config = flags.pop("config") or os.environ.get(CONFIG_VARIABLE)
    settings = load_settings(flags, Path(config) if config else None, warn=make_log(Settings()).warn)
    return settings, wants_plan


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server, or the command `journal`, `health` or `replay`, and return the exit status.

    arguments: without the program's name; None means those of this process.

    For the main thread, with the standard streams open. A server runs until a signal or the command `shutdown` ends it.
    """
    try:
        return _run_command(sys.argv[1:] if arguments is None else arguments)
    finally:
        discard_broken_streams()


def _run_command(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["journal"]:
        from memcache_kv.journal.tools import cli  # imported here, as a server does not need the tools

        return cli.main(arguments[1:])
    if arguments[:1] == ["health"]:
        from memcache_kv.server import health

        return health.main(arguments[1:])
    if arguments[:1] == ["replay"]:
        from memcache_kv.traffic import cli as replay

        return replay.main(arguments[1:])
    log = make_log(Settings())
    try:
        settings, wants_plan = _parse(arguments)
        if wants_plan:
            print(memory_plan(settings, settings.threads or default_threads()).table(), end="")
            return 0
        log = make_log(settings)
        return run(settings)
    except StoppedEarly:
        return 0
    except MemcacheKVError as error:
        log.say(f"memcache-kv: {error}", Level.ERROR)
        return error.status


def run(settings: Settings) -> int:
    """Run a server with these settings until it is asked to stop, and return the exit status.

    For the main thread, as it handles signals. Raises what `ServerRun` and its `start` raise, and ConfigError if the
    process can't be set up as the settings ask.
    """
    process.refuse_root(settings)
    settings, inherited = _take_sockets(settings)
    background = _prepare_process(settings)
    server = ServerRun(settings, inherited=inherited)
    notifier = Notifier(os.environ, server.log)
    server.on_loading = notifier.loading
    server.on_saving = lambda: notifier.progress("saving the items")
    supervision = Supervision(notifier, server)
    received: list[str] = []  # the main thread logs these: a signal handler could interrupt the log itself
    _handle_signals(server, received)
    memory.tune_memory()
    process.share_interpreter()
    process.become_user(settings.user)
    if settings.lock_memory:  # after the switch: memory that root locked would count against the new user's limit
        process.lock_memory(settings.memory_limit, server.log)
    with process.pid_file(settings.pidfile, server.log):
        try:
            server.start()
            process.warn_of_root(settings.user, server.log)
            if background is not None:
                background.ready(server.log)
            memory.freeze_startup_objects()
            supervision.begin()
            _serve(server, received, notifier, supervision)
        finally:
            signal.set_wakeup_fd(-1)  # its descriptor is about to be closed; another Ctrl-C has no effect now
        supervision.stopping()
        server.stop()
        supervision.end()
    return 1 if server.failure is not None else 0


def _take_sockets(settings: Settings) -> tuple[Settings, Inherited | None]:
    """Take the sockets that systemd has passed to this process, before it forks, and add them to the settings."""
    if "LISTEN_FDS" not in os.environ:  # without it, the module that reads it is not imported
        return settings, None
    from memcache_kv.server import activation

    return activation.take_sockets(settings, os.environ) if activation.is_activated(os.environ) else (settings, None)


def _prepare_process(settings: Settings) -> Background | None:
    """Raise limits and go into the background, which must happen as root and before there are threads."""
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

    return Background(keeps_log=settings.verbose > 0 or settings.log_file is not None)


def _handle_signals(server: ServerRun, received: list[str]) -> None:
    """Make SIGTERM, SIGINT and, gracefully, SIGUSR1 stop the server; append their names and SIGHUP to `received`."""

    def receive(signum: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(signum).name)
        if signum != signal.SIGHUP:
            server.stop_soon(signum == signal.SIGUSR1)

    signal.set_wakeup_fd(server.stopping.fileno())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, receive)


def _serve(server: ServerRun, received: list[str], notifier: Notifier, supervision: Supervision) -> None:
    """Wait until the server is asked to stop and has drained, and act on the signals received meanwhile."""
    stopping = False
    while not stopping:
        seconds = server.condition.drain_seconds_left
        stopping = server.stopping.wait(seconds) or seconds == 0
        while received:
            name = received.pop(0)
            if name == "SIGHUP":
                notifier.reloading()
                server.reload()
                supervision.loaded()
            else:
                server.log.event(f"Signal handled: {name}.")
                if server.condition.drain_seconds_left:
                    server.log.say(f"the server stops in {server.settings.drain_seconds} s, or at the next signal")


if __name__ == "__main__":
    sys.exit(main())
