"""The shell's memcached mode: pymemcache's client by hand, results as Python values."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from pymemcache.client.base import Client  # type: ignore[import-untyped]
from pymemcache.exceptions import MemcacheError  # type: ignore[import-untyped]

from clients.address import Address
from clients.line_input import LineInput
from clients.tcp_mode import ConnectionLostError

Words = list[str]


@dataclass(frozen=True)
class Command:
    """Describe one command: how it is written, how many words it takes, what it calls."""

    usage: str
    fewest: int
    most: int
    call: Callable[[Client, Words], object]


def _stored(name: str) -> Command:
    def call(client: Client, words: Words) -> object:
        expire = int(words[2]) if len(words) > 2 else 0
        return getattr(client, name)(words[0], words[1].encode(), expire=expire)

    return Command(f"{name} KEY VALUE [TTL]", 2, 3, call)


def _counted(name: str) -> Command:
    def call(client: Client, words: Words) -> object:
        return getattr(client, name)(words[0], int(words[1]) if len(words) > 1 else 1)

    return Command(f"{name} KEY [BY]", 1, 2, call)


def _get(client: Client, words: Words) -> object:
    return client.get(words[0]) if len(words) == 1 else client.get_many(words)


def _gets(client: Client, words: Words) -> object:
    return client.gets(words[0]) if len(words) == 1 else client.gets_many(words)


def _cas(client: Client, words: Words) -> object:
    expire = int(words[3]) if len(words) > 3 else 0
    return client.cas(words[0], words[1].encode(), words[2], expire=expire)


def _delete(client: Client, words: Words) -> object:
    return client.delete(words[0]) if len(words) == 1 else client.delete_many(words)


def _touch(client: Client, words: Words) -> object:
    return client.touch(words[0], int(words[1]) if len(words) > 1 else 0)


def _flush_all(client: Client, words: Words) -> object:
    return client.flush_all(int(words[0]) if words else 0)


MANY_KEYS = 1000

COMMANDS = {
    **{name: _stored(name) for name in ("set", "add", "replace", "append", "prepend")},
    "get": Command("get KEY...", 1, MANY_KEYS, _get),
    "gets": Command("gets KEY...", 1, MANY_KEYS, _gets),
    "cas": Command("cas KEY VALUE CAS [TTL]", 3, 4, _cas),
    "delete": Command("delete KEY...", 1, MANY_KEYS, _delete),
    "incr": _counted("incr"),
    "decr": _counted("decr"),
    "touch": Command("touch KEY [TTL]", 1, 2, _touch),
    "stats": Command("stats [WORD...]", 0, 3, lambda client, words: client.stats(*words)),
    "version": Command("version", 0, 0, lambda client, words: client.version()),
    "flush_all": Command("flush_all [DELAY]", 0, 1, _flush_all),
}

HELP = (
    "memcached mode: calls of pymemcache's Client; keys and values with spaces go in quotes.\n"
    + "\n".join(f"  {command.usage}" for command in COMMANDS.values())
    + "\nTTL in seconds, 0 for never. gets answers (value, cas); the cas goes into `cas`."
)


class MemcachedMode:
    """Run commands through pymemcache and show their results as Python values."""

    name = "memcached"
    help = HELP

    def __init__(self, address: Address, timeout_seconds: float, show: Callable[[str], None]) -> None:
        self._show = show
        self._client = Client(
            address.for_pymemcache(),
            connect_timeout=timeout_seconds,
            timeout=timeout_seconds,
            no_delay=not address.path,
            default_noreply=False,
            allow_unicode_keys=True,
            encoding="utf-8",
        )

    def connect(self) -> None:
        """Ask for the version, so that a server that does not answer shows at once; raise OSError then."""
        try:
            self._client.version()
        except MemcacheError as error:
            raise OSError(f"it does not answer as memcached does ({_message(error)})") from error

    def close(self) -> None:
        """Close the connection; the next command opens it again."""
        self._client.close()

    def run(self, line: bytes, source: LineInput) -> None:
        """Run one command and show what it returns, or what is wrong with it.

        Raises ConnectionLostError, and OSError when no connection can be opened.
        """
        try:
            words = shlex.split(line.decode("utf-8", "surrogateescape"))
        except ValueError as error:
            self._show(f"cannot read this line: {error}; put quotes inside the other kind of quotes")
            return
        if words:
            self._call(words[0], words[1:])

    def _call(self, name: str, words: Words) -> None:
        command = COMMANDS.get(name)
        if command is None:
            self._show(f"no command {name!r}; `help` lists them")
        elif not command.fewest <= len(words) <= command.most:
            self._show(f"usage: {command.usage}")
        else:
            self._show(self._result(command, words))

    def _result(self, command: Command, words: Words) -> str:
        try:
            return _spelled(command.call(self._client, words))
        except (TimeoutError, ConnectionError) as error:
            self._client.close()
            if isinstance(error, ConnectionRefusedError):
                raise
            raise ConnectionLostError(f"{error}; the next command opens a new connection") from error
        except ValueError as error:
            return f"usage: {command.usage} ({error})"
        except MemcacheError as error:
            return f"{type(error).__name__}: {_message(error)}"


def _message(error: Exception) -> str:
    """Spell an error's message, which pymemcache gives as text or as bytes."""
    first = error.args[0] if error.args else ""
    return first.decode("utf-8", "backslashreplace") if isinstance(first, bytes) else str(error)


def _spelled(result: object) -> str:
    """Spell a result as Python does, a mapping with an item a line."""
    if isinstance(result, dict) and len(result) > 1:
        return "{\n" + "".join(f"  {key!r}: {value!r},\n" for key, value in result.items()) + "}"
    return repr(result)
