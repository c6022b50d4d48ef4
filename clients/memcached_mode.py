"""The shell's memcached mode: pymemcache's client by hand, results as Python values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pymemcache.client.base import Client  # type: ignore[import-untyped]
from pymemcache.exceptions import (  # type: ignore[import-untyped]
    MemcacheClientError,
    MemcacheError,
    MemcacheUnexpectedCloseError,
)

from clients.access import Access, AccessError, is_stale
from clients.address import reason_of
from clients.line_input import LineInput
from clients.tcp_mode import ConnectionLostError
from clients.typed_words import split_words

Words = list[str]


@dataclass(frozen=True)
class Command:
    """Describe one command: how it is written, how many words it takes, what it calls."""

    usage: str
    fewest: int
    most: int
    call: Callable[[Client, Words], object]


def _value(word: str) -> bytes:
    """Give the bytes that were typed, those too that are no UTF-8."""
    return word.encode("utf-8", "surrogateescape")


def _number(name: str, words: Words, default: int) -> int:
    """Read the first of these words, if there is one; raise ValueError when it is no whole number."""
    if not words:
        return default
    try:
        return int(words[0])
    except ValueError:
        raise ValueError(f"{name} is a whole number, not {words[0]!r}; a value with blanks goes in quotes") from None


def _stored(name: str) -> Command:
    def call(client: Client, words: Words) -> object:
        return getattr(client, name)(words[0], _value(words[1]), expire=_number("TTL", words[2:], 0))

    return Command(f"{name} KEY VALUE [TTL]", 2, 3, call)


def _counted(name: str) -> Command:
    def call(client: Client, words: Words) -> object:
        return getattr(client, name)(words[0], _number("BY", words[1:], 1))

    return Command(f"{name} KEY [BY]", 1, 2, call)


def _get(client: Client, words: Words) -> object:
    return client.get(words[0]) if len(words) == 1 else client.get_many(words)


def _gets(client: Client, words: Words) -> object:
    return client.gets(words[0]) if len(words) == 1 else client.gets_many(words)


def _cas(client: Client, words: Words) -> object:
    unique = str(_number("CAS", words[2:], 0))
    return client.cas(words[0], _value(words[1]), unique, expire=_number("TTL", words[3:], 0))


def _delete(client: Client, words: Words) -> object:
    return client.delete(words[0]) if len(words) == 1 else client.delete_many(words)


def _touch(client: Client, words: Words) -> object:
    return client.touch(words[0], _number("TTL", words[1:], 0))


def _flush_all(client: Client, words: Words) -> object:
    return client.flush_all(_number("DELAY", words, 0))


MANY_KEYS = 1000

SHELL_COMMANDS = {
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
    "memcached mode: calls of pymemcache's Client; keys and values with blanks go in quotes.\n"
    + "\n".join(f"  {command.usage}" for command in SHELL_COMMANDS.values())
    + "\nTTL in seconds, 0 for never. gets answers (value, cas); the cas goes into `cas`."
    '\nQuotes inside a word belong to it: set k {"a":1}'
)


class MemcachedMode:
    """Run commands through pymemcache and show their results as Python values."""

    name = "memcached"
    help = HELP

    def __init__(self, access: Access, timeout_seconds: float, show: Callable[[str], None]) -> None:
        self._access = access
        self._timeout_seconds = timeout_seconds
        self._show = show
        self._client = Client(
            access.address.for_pymemcache(),
            default_noreply=False,
            allow_unicode_keys=True,
            encoding="utf-8",
        )

    def connect(self) -> None:
        """Ask for the version, so that a server that does not answer shows at once; raise OSError then."""
        self._open()
        try:
            self._client.version()
        except MemcacheClientError as error:
            raise AccessError(f"it refuses to answer ({reason_of(error)}); --user logs in") from error
        except MemcacheError as error:
            raise AccessError(f"it does not answer as memcached does ({reason_of(error)})") from error

    def _open(self) -> None:
        """Open a connection unless there is a good one; raise OSError when nobody answers."""
        if self._client.sock is not None and is_stale(self._client.sock):
            self._client.close()
        if self._client.sock is None:
            self._client.sock = self._access.connect(self._timeout_seconds)

    def close(self) -> None:
        """Close the connection; the next command opens it again."""
        self._client.close()

    def run(self, line: bytes, source: LineInput) -> None:
        """Run one command and show what it returns, or what is wrong with it.

        Raises ConnectionLostError, and OSError when no connection can be opened.
        """
        try:
            words = split_words(line.decode("utf-8", "surrogateescape"))
        except ValueError as error:
            self._show(f"cannot read this line: {error}; put quotes inside the other kind of quotes")
            return
        if words:
            self._call(words[0], words[1:])

    def _call(self, name: str, words: Words) -> None:
        command = SHELL_COMMANDS.get(name)
        if command is None:
            self._show(f"no command {name!r}; `help` lists them")
        elif not command.fewest <= len(words) <= command.most:
            self._show(f"usage: {command.usage}")
        else:
            self._show(self._result(command, words))

    def _result(self, command: Command, words: Words) -> str:
        self._open()
        try:
            return _spelled(command.call(self._client, words))
        except (OSError, MemcacheUnexpectedCloseError) as error:
            self._client.close()
            raise ConnectionLostError(f"{reason_of(error)}; the next command opens a new connection") from error
        except ValueError as error:
            return f"usage: {command.usage} ({error})"
        except MemcacheError as error:
            return f"{type(error).__name__}: {reason_of(error)}"


def _spelled(result: object) -> str:
    """Spell a result as Python does, a mapping with an item a line; what was not found has no value."""
    if result is None or result == (None, None):
        return "(not found)"
    if isinstance(result, dict) and len(result) > 1:
        return "{\n" + "".join(f"  {key!r}: {value!r},\n" for key, value in result.items()) + "}"
    return repr(result)
