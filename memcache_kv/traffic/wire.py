"""A request as it was on the wire, and what is known beforehand about its reply."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

UNKNOWN_NAME = "?"
"""The command of what is no request that a server would know."""


@dataclass(frozen=True, slots=True)
class WireRequest:
    """One request of a client.

    command: the name in the text protocol, in lower case, for the binary protocol too (`set`, `mg`, `get`), with `noop`
    and `sasl_auth` and the like for those that only the binary protocol has; "?" if it is unknown. keys: the keys that
    it names, decoded if the meta protocol has them in base64. data: all its bytes. has_reply: whether it is always
    answered; False for noreply and for quiet requests, which may be answered, and for bytes of an unknown form.
    """

    command: str
    keys: tuple[bytes, ...]
    data: bytes
    has_reply: bool


class Silence(Enum):
    """Whether a request is answered: always, sometimes (quiet requests), or never (noreply)."""

    NEVER = "never"
    SOMETIMES = "sometimes"
    ALWAYS = "always"
    """It is always silent."""


class ExpectedReply(Protocol):
    """The form that the reply to one request has. Used for one reply, whose bytes arrive bit by bit."""

    silence: Silence

    def fits(self, arrived: bytearray) -> bool | None:
        """Tell whether the bytes that arrived begin a reply to this request; None while there are too few."""

    def end(self, arrived: bytearray) -> int | None:
        """Return the reply's length in bytes; None while it is not complete. Call it only where `fits` is true."""


class UnknownForm(Exception):
    """The bytes are in no form that a server would read as requests."""


class Framing(Protocol):
    """How one protocol's input is cut into requests."""

    def next_request(self, held: bytearray, position: int) -> tuple[WireRequest, ExpectedReply] | None:
        """Return the request that begins at `position`, and the form of its reply; None while it is not complete.

        Raises UnknownForm.
        """


class Unanswered:
    """The form of no reply at all."""

    silence = Silence.ALWAYS

    def fits(self, arrived: bytearray) -> bool | None:
        """Return False: nothing that arrives belongs to the request."""
        return False

    def end(self, arrived: bytearray) -> int | None:
        """Return 0, the length of no reply."""
        return 0
