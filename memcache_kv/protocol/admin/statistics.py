"""/stats.json: the reports of `stats` as one JSON object."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from memcache_kv.stats import report, settings_report
from memcache_kv.stats.metrics import MeasuredServer
from memcache_kv.stats.report import Row, Walk

DECIMAL = re.compile(r"\d+\.\d+", re.ASCII)

JsonValue = int | float | str


def statistics_in_json(server: MeasuredServer) -> Iterator[bytes]:
    """Yield the object in pieces; an empty one gives way to other requests after a step of the work."""
    yield b'{"stats": ' + _object(report.general(server))
    yield b', "settings": ' + _object(settings_report.settings(server))
    yield b', "memcache_kv": ' + _object(report.own(server))
    for name, walk in ((b"items", report.items(server)), (b"slabs", report.slabs(server))):
        yield b', "%b": ' % name
        yield from _classes(walk)
    yield b"}\n"


def _object(rows: Iterable[Row]) -> bytes:
    return json.dumps({name: _in_json(value) for name, value in rows}).encode()


def _classes(walk: Walk) -> Iterator[bytes]:
    """Yield an object with the rows of a report by size class, each class an object of its own."""
    found: dict[str, JsonValue | dict[str, JsonValue]] = {}
    for rows in walk:
        for name, value in rows:
            number, is_of_class, rest = name.removeprefix("items:").partition(":")
            of_class = found.setdefault(number, {}) if is_of_class else found
            assert isinstance(of_class, dict)
            of_class[rest or number] = _in_json(value)
        yield b""
    yield json.dumps(found).encode()


def _in_json(value: object) -> JsonValue:
    """Return a number as a number, and anything else as a text."""
    if isinstance(value, int):
        return value
    text = str(value)
    return float(text) if DECIMAL.fullmatch(text) else text
