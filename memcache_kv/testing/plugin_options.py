"""The plugin's options: an argument of a factory wins over the command line, and that over the ini file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from memcache_kv.version import VERSION

OPTION_HELP = {
    "exec": "the memcached, or memcache-kv, to run as a process of its own; by default the server runs in pytest's",
    "host": "the address for clients; for memcached_noproc, where the running server is",
    "port": "the port for clients, by default a free one; for memcached_noproc that of the running server",
    "args": 'more flags for the server, as memcached has them, such as "-m 128 -I 2m"',
    "clock": "patched, and the server follows freezegun and time-machine, or real, and it ignores them",
    "timeout": "how many seconds a memcached that is run may take to start, or one that runs to answer",
}
"""The options without the prefix `memcached`, and what they are for."""
DEFAULT_HOST = "127.0.0.1"
RUNNING_PORT = 11211
"""Where a running server is by default."""
DEFAULT_TIMEOUT_SECONDS = 10.0

_Chosen = TypeVar("_Chosen")


def add_plugin_options(parser: pytest.Parser) -> None:
    """Add the options to pytest's command line and ini file."""
    group = parser.getgroup("memcached", f"memcached for tests (memcache_kv {VERSION})")
    for name, text in OPTION_HELP.items():
        group.addoption(
            f"--memcached-{name}", dest=f"memcached_{name}", metavar=name.upper(), default=None, help=text
        )  # fmt: skip
        parser.addini(f"memcached_{name}", text, default=None)


def chosen(
    config: pytest.Config, name: str, argument: _Chosen | None, convert: Callable[[str], _Chosen], default: _Chosen
) -> _Chosen:  # fmt: skip
    """Return an option's value: the argument, or else that of the command line, the ini file, or the default.

    Raises pytest.UsageError if it can't be converted.
    """
    if argument is not None:
        return argument
    given = config.getoption(f"memcached_{name}", default=None)
    where = f"--memcached-{name}"
    if given is None:
        given, where = config.getini(f"memcached_{name}") or None, f"memcached_{name} of the ini file"
    if given is None:
        return default
    try:
        return convert(str(given))
    except ValueError as error:
        raise pytest.UsageError(f"{where} can't be {given!r}: {error}") from None


def follows_patches(text: str) -> bool:
    """Read whether a server follows a patched clock. Raises ValueError."""
    if text not in ("patched", "real"):
        raise ValueError("it is patched or real")
    return text == "patched"


def port_number(text: str) -> int:
    """Read a port; 0 is any free one. Raises ValueError."""
    number = int(text)
    if not 0 <= number < 1 << 16:
        raise ValueError("a port is a number from 0 to 65535")
    return number
