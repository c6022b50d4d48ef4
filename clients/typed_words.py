"""A typed line as words: blanks part them, quotes around a whole word keep its blanks, and nothing else is special."""

from __future__ import annotations

import re

WORD = re.compile(
    r"""
    "(?P<double> (?: [^"\\] | \\. )* )" (?= [ \t] | \Z )   # \" and \\ stand for " and \ in here
    | '(?P<single> [^']* )' (?= [ \t] | \Z )
    | (?P<plain> [^"'\s] [^ \t]* )
    """,
    re.VERBOSE | re.DOTALL,
)
BLANKS = re.compile(r"[ \t\r\n\f\v]*")
ESCAPED = re.compile(r'\\(["\\])')


def split_words(line: str) -> list[str]:
    """Part a line into words; raise ValueError for a word that begins with a quote and does not end with it.

    Quotes within a word are part of it, so that {"a":1} is what it looks like.
    """
    words, position = [], _behind_blanks(line, 0)
    while position < len(line):
        match = WORD.match(line, position)
        if match is None:
            raise ValueError(f"the quote before {line[position + 1 : position + 21]!r} does not end its word")
        words.append(_value(match))
        position = _behind_blanks(line, match.end())
    return words


def _behind_blanks(line: str, position: int) -> int:
    match = BLANKS.match(line, position)
    return match.end() if match else position


def _value(match: re.Match[str]) -> str:
    if match["double"] is not None:
        return ESCAPED.sub(r"\1", match["double"])
    return match["plain"] if match["plain"] is not None else match["single"]
