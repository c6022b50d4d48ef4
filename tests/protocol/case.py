"""One request and what it answers."""

from typing import NamedTuple


class Case(NamedTuple):
    """A request and the whole reply to it, from an empty store."""

    name: str
    request: bytes
    reply: bytes
