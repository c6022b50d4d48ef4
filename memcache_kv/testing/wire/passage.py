"""A whole request or reply on its way through the tap, and the rules that may change it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple, Protocol

from memcache_kv.traffic.wire import WireRequest


class Direction(Enum):
    """Which way bytes go."""

    UPSTREAM = "upstream"
    """From the client to the server: requests."""
    DOWNSTREAM = "downstream"
    """From the server to the client: replies."""


class Ending(Enum):
    """What becomes of a connection behind a certain byte."""

    HALF_CLOSE = auto()
    """Nothing more follows in this direction. The other one goes on."""
    CLOSE = auto()
    """Both sides are closed, as a server does that ends a connection."""
    RESET = auto()
    """The client gets a reset (RST) instead of a proper end."""


class Pace(NamedTuple):
    """How data is sent in steps: at most so many bytes at once, with a pause between two steps."""

    step_bytes: int
    pause: float = 0.0
    """Seconds before each step but the first."""
    seconds_per_byte: float = 0.0
    """Seconds before each step, for each of its bytes."""


class Rule(Protocol):
    """What changes passages. The tap's thread calls `meet`, which must not block."""

    is_over: bool
    """Set by `Tap.end`: what the rule has delayed or slowed down goes on at once then."""

    @property
    def direction(self) -> Direction | None:
        """Which passages it meets; None for none."""

    def meet(self, passage: Passage) -> None:
        """Look at a request or a reply, and change what becomes of it."""


@dataclass
class Passage:
    """A whole request on its way to the server, or a whole reply on its way to the client, for rules to change."""

    connection: int
    """The number of the client's connection, from 1 on."""
    direction: Direction
    request: WireRequest
    """The request that passes, or that is replied to."""
    data: bytes
    """What is sent: its bytes, unless a rule replaces them. Empty for nothing."""
    answer: bytes | None = None
    """Upstream: what the client is answered instead of the server, which does not get the request; None: nothing."""
    ending: Ending | None = None
    """What becomes of the connection once `data` is sent."""
    delays: list[tuple[Rule, float]] = field(default_factory=list)
    """How many seconds a rule holds it back, from its arrival on, at most until the rule ends."""
    paces: list[tuple[Rule, Pace]] = field(default_factory=list)
    """In which steps a rule has it sent, until the rule ends."""
