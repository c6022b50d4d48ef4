"""The intended differences from memcached: differences.toml has the table, for the page and for the tests."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.reference.tables import MADE, table


class Mask(NamedTuple):
    """A regular expression for a whole word of a reply, and what takes the word's place."""

    pattern: str
    replacement: str


class Row(NamedTuple):
    """One difference; the rules (omit, masks, code) are those by which the differential tests pass over it."""

    here: str
    memcached: str
    why: str
    compared: str = ""
    omit: str = ""
    mask: tuple[Mask, ...] = ()
    mask_of_memcached: tuple[Mask, ...] = ()
    code: str = ""

    @property
    def has_a_rule(self) -> bool:
        return bool(self.omit or self.mask or self.mask_of_memcached or self.code)


class Section(NamedTuple):
    """A section of the page."""

    title: str
    rows: tuple[Row, ...]


def _masks(pairs: Iterable[tuple[str, str]]) -> tuple[Mask, ...]:
    return tuple(Mask(*pair) for pair in pairs)


def _row(
    *,
    mask: Iterable[tuple[str, str]] = (),
    mask_of_memcached: Iterable[tuple[str, str]] = (),
    **texts: str,
) -> Row:
    return Row(**texts, mask=_masks(mask), mask_of_memcached=_masks(mask_of_memcached))


_TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
SECTIONS = tuple(
    Section(section["title"], tuple(_row(**row) for row in section["row"])) for section in _TABLE["section"]
)
ROWS = tuple(row for section in SECTIONS for row in section.rows)

HEAD = f"""# Where we differ from memcached on purpose

{MADE.replace("from the code", "from tests/reference/differences.toml")}

The reference is memcached 1.6.45. Each row says what this server does, what memcached does instead, and why. All of
these differences are intended. Any other difference is a bug; the tests in `tests/differential` look for them.

"""
COMPARED = """## What the comparison leaves out

The tests in `tests/differential` send the same generated requests to both servers and expect the same bytes back. They
pass over these of the differences above:

"""
SUITE = """
## memcached's own test files

They are written for memcached's build for tests. Two of them, `expirations.t` and `stats.t`, move the clock, and the
first fails where it can't: start the server with `python -m memcache_kv --debug-commands` for them. 55 files of
memcached 1.6.45 are about a server without proxy, extstore and slab pages. These do not pass:

"""


def differences_page() -> str:
    """Make the page."""
    head = ("here", "memcached", "why")
    parts = [
        f"## {title}\n\n{table(head, ((row.here, row.memcached, row.why) for row in rows))}\n"
        for title, rows in SECTIONS
    ]
    compared = table(("difference", "how it is left out"), ((row.here, row.compared) for row in ROWS if row.compared))
    suite = table(("file", "why it does not pass"), ((f"`{row['file']}`", row["why"]) for row in _TABLE["suite"]))
    return HEAD + "".join(parts) + COMPARED + compared + SUITE + suite
