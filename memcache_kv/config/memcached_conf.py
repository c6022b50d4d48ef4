"""The configuration file of Debian's memcached package: a flag a line, as in /etc/memcached.conf."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable
from typing import Any, NoReturn

from memcache_kv.errors import ConfigError

COMMENT = re.compile(r"(?<!\\)#.*")
DROPPED_FLAG = re.compile(r"-[dh]")
"""What begins with these is for a program that is started by hand: systemd and init scripts drop it, as we do."""
LOG_DIRECTIVE = "logfile"


class FileFlags(argparse.ArgumentParser):
    """A parser for the flags of a file, which raises ConfigError and never exits."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError."""
        raise ConfigError(message)


def is_memcached_conf(text: str) -> bool:
    """Return whether a file is in this format, and not in TOML: its first line that counts is a flag or `logfile`."""
    first = next((line for _, line in _lines(text)), "")
    return first.startswith("-") or (first.split()[:1] == [LOG_DIRECTIVE] and "=" not in first)


def parse_memcached_conf(text: str, name: str, parser: FileFlags, warn: Callable[[str], None]) -> dict[str, Any]:
    """Return the flags of a file by their long names, as `load_settings` wants those of the command line.

    name: the file's, for messages; parser: knows the flags; warn: called for each line that is ignored. Raises
    ConfigError.

    -d, -h and `logfile` are dropped, as Debian's script does. So is -P: memcached writes a pid file only with -d.
    """
    words: list[str] = []
    for number, line in _lines(text):
        if DROPPED_FLAG.match(line) or line.split()[0] == LOG_DIRECTIVE:
            continue
        if not line.startswith("-"):
            warn(f"{name}, line {number}: {line!r} is no flag, and is ignored")
            continue
        try:
            words += shlex.split(line)
        except ValueError as error:
            raise ConfigError(f"--config: {name}, line {number}: {error}") from None
    try:
        flags = vars(parser.parse_args(words))
    except ConfigError as error:
        raise ConfigError(f"--config: {name}: {error}") from None
    flags.pop("pidfile", None)
    return flags


def _lines(text: str) -> list[tuple[int, str]]:
    """Return the lines that are not empty, without comments, and their numbers."""
    stripped = ((number, COMMENT.sub("", line).strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in stripped if line]
