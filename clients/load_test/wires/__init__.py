"""The protocols that the load tester speaks, one file each."""

from __future__ import annotations

from collections.abc import Callable

from clients.load_test.wires.binary import BinaryWire
from clients.load_test.wires.http import HttpWire
from clients.load_test.wires.line import LineWire
from clients.load_test.wires.meta import MetaWire
from clients.load_test.wires.text import TextWire
from clients.load_test.wires.wire import Wire

DEFAULT_PORTS = {"line": 7171, "text": 11211, "meta": 11211, "binary": 11211, "http": 8080}
"""Every protocol, and the port where it is spoken if no other is named."""

WIRES: dict[str, Callable[[int], Wire]] = {
    "line": LineWire,
    "text": TextWire,
    "meta": MetaWire,
    "binary": BinaryWire,
}


def wire_for(protocol: str, ttl: int, host: str) -> Wire:
    """Return a protocol that stores values for ttl seconds; host is for the protocols that name it."""
    if protocol == "http":
        return HttpWire(ttl, host)
    return WIRES[protocol](ttl)
