"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

MADE = "<!-- Made by `python -m tests.reference` from the code: do not edit. -->"


class UndescribedError(Exception):
    """The code has a name that is not described, or a description has no name in the code."""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Make a table; a bar in a cell is escaped."""
    names = list(head)
    lines = [names, ["---"] * len(names), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def check_described(names: Iterable[str], described: Mapping[str, object], what: str) -> None:
    """Raise UndescribedError unless both have the same names."""
    found = set(names)
    if missing := sorted(found - described.keys()):
        raise UndescribedError(f"{what} without a description: {', '.join(missing)}")
    if gone := sorted(described.keys() - found):
        raise UndescribedError(f"{what} described, and not in the code: {', '.join(gone)}")
