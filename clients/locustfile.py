"""Users for Locust: one that speaks the line protocol, and one that uses pymemcache.

Each user has a connection and keys of its own. It reads what it has stored and checks the value, so that a lost or
wrong one is a failure too.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

if str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from locust import User, events, task
from locust.env import Environment
from locust.exception import StopUser
from pymemcache.client.base import Client  # type: ignore[import-untyped]

from clients.address import Address, parse_address

KEYS_OF_A_USER = 10
VALUE_CHARACTERS = 64
REPLY_SECONDS = 30.0
RECEIVE_BYTES = 4096
numbers = itertools.count()


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: argparse.ArgumentParser) -> None:
    """Give Locust's command line the addresses and the wait time."""
    parser.add_argument("--line", default="127.0.0.1:7171", metavar="ADDRESS", help="of LineUser (default %(default)s)")
    parser.add_argument(
        "--memcached", default="127.0.0.1:11211", metavar="ADDRESS", help="of MemcachedUser (default %(default)s)"
    )
    parser.add_argument(
        "--wait", type=float, default=10.0, metavar="SECONDS", help="of a user, on average (default 10)"
    )


class WrongReply(Exception):
    """A reply that is not the one expected."""


class LineClient:
    """One connection that speaks the line protocol."""

    def __init__(self, address: Address) -> None:
        """Connect; raise OSError when nobody answers."""
        self._socket = address.connect(REPLY_SECONDS)
        self._arrived = b""

    def put(self, key: str, value: str) -> None:
        """Store a value; raise WrongReply if it is not stored."""
        if (reply := self._ask(f"PUT {key} {value}")) != "OK stored":
            raise WrongReply(reply)

    def get(self, key: str) -> str | None:
        """Return the value of a key; None if there is none."""
        reply = self._ask(f"GET {key}")
        if reply == "ERROR key not found":
            return None
        if not reply.startswith("OK "):
            raise WrongReply(reply)
        return reply.removeprefix("OK ")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _ask(self, request: str) -> str:
        """Send a line and return the reply; raise OSError if the connection breaks."""
        self._socket.sendall(request.encode() + b"\n")
        while b"\n" not in self._arrived:
            piece = self._socket.recv(RECEIVE_BYTES)
            if not piece:
                raise ConnectionResetError("the server closed the connection")
            self._arrived += piece
        line, _, self._arrived = self._arrived.partition(b"\n")
        return line.decode().rstrip("\r")


class MemcachedClient:
    """One connection of pymemcache, with the methods of `LineClient`."""

    def __init__(self, address: Address) -> None:
        """Connect; raise OSError when nobody answers."""
        self._client = Client(
            address.for_pymemcache(),
            connect_timeout=REPLY_SECONDS,
            timeout=REPLY_SECONDS,
            no_delay=True,
            default_noreply=False,
        )
        self._client.version()

    def put(self, key: str, value: str) -> None:
        """Store a value; raise WrongReply if it is not stored."""
        if not self._client.set(key, value):
            raise WrongReply("not stored")

    def get(self, key: str) -> str | None:
        """Return the value of a key; None if there is none."""
        value = self._client.get(key)
        return None if value is None else value.decode()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class CacheUser(User):
    """Stores values under keys of its own, and reads them back four times as often."""

    abstract = True
    protocol: ClassVar[str]
    client_class: ClassVar[type[LineClient] | type[MemcachedClient]]
    put_name, get_name = "set", "get"

    def __init__(self, environment: Environment) -> None:
        """Take a number of its own."""
        super().__init__(environment)
        self._name = f"{self.protocol}-{random.getrandbits(64):016x}-{next(numbers)}"
        self._values: dict[str, str] = {}
        self._client: LineClient | MemcachedClient | None = None

    def wait_time(self) -> float:
        """Return the next pause: evenly spread around the average."""
        average = self._options.wait
        return random.uniform(average / 2, average * 3 / 2)

    @property
    def _options(self) -> Any:
        options = self.environment.parsed_options
        assert options is not None
        return options

    def on_start(self) -> None:
        """Connect, and store the first value; the user ends if that fails."""
        if not self._measured("connect", self._connect):
            raise StopUser
        self.store()

    def on_stop(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()

    @task(1)
    def store(self) -> None:
        """Store a new value under one of the keys."""
        key, value = (
            f"{self._name}-{random.randrange(KEYS_OF_A_USER)}",
            f"{random.getrandbits(256):0{VALUE_CHARACTERS}x}",
        )

        def store() -> None:
            self._values.pop(key, None)
            self._open().put(key, value)
            self._values[key] = value

        self._measured(self.put_name, store)

    @task(4)
    def read(self) -> None:
        """Read a key that was stored, and check the value."""
        key, value = random.choice(list(self._values.items()) or [(f"{self._name}-none", None)])

        def read() -> None:
            if (found := self._open().get(key)) != value:
                raise WrongReply(f"expected {value}, found {found}")

        self._measured(self.get_name, read)

    def _connect(self) -> None:
        self._client = self.client_class(parse_address(getattr(self._options, self.protocol)))

    def _open(self) -> LineClient | MemcachedClient:
        """Return the connection; open it again if it was lost."""
        if self._client is None:
            self._connect()
        assert self._client is not None
        return self._client

    def _measured(self, name: str, action: Callable[[], None]) -> bool:
        """Carry out an action and report to Locust how long it took; return whether it succeeded."""
        failure: Exception | None = None
        begin = time.perf_counter()
        try:
            action()
        except Exception as error:  # whatever goes wrong is a failure of this request, and the user goes on
            failure = error
            if self._client is not None and not isinstance(error, WrongReply):
                self._client.close()
                self._client = None
        self.environment.events.request.fire(
            request_type=self.protocol,
            name=name,
            response_time=(time.perf_counter() - begin) * 1000,
            response_length=VALUE_CHARACTERS,
            exception=failure,
            context={},
        )
        return failure is None


class LineUser(CacheUser):
    """Speaks the line protocol."""

    protocol = "line"
    client_class = LineClient
    put_name, get_name = "PUT", "GET"


class MemcachedUser(CacheUser):
    """Speaks memcached's text protocol through pymemcache."""

    protocol = "memcached"
    client_class = MemcachedClient
