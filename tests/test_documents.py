"""The documents as Markdown: whatever is meant as a table is one, and each of its rows has all columns and no more."""

from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

MARKDOWN = MarkdownIt("commonmark").enable("table")


def lines_of(tokens: list[Token], *kinds: str) -> list[range]:
    """The lines of each block of these kinds, counted from 0."""
    return [range(*token.map) for token in tokens if token.type in kinds and token.map is not None]


def has_columns(row: str, count: int) -> bool:
    """Whether Markdown reads this many cells in a row: only then is it the head of a table with as many columns."""
    return bool(lines_of(MARKDOWN.parse(f"{row}\n{'|---' * count}|\n"), "table_open"))


def faults(text: str) -> list[str]:
    """The lines that are no rows of a table and look like one, and the rows with too many or too few cells."""
    lines, tokens = text.splitlines(), MARKDOWN.parse(text)
    tables = lines_of(tokens, "table_open")
    explained = {number for block in (*tables, *lines_of(tokens, "fence", "code_block")) for number in block}
    found = [
        f"line {number + 1} is in no table: {line}"
        for number, line in enumerate(lines)
        if line.lstrip().startswith("|") and number not in explained
    ]
    for table in tables:
        [count] = [count for count in range(1, 30) if has_columns(lines[table.start], count)]
        found += [
            f"line {number + 1} has not {count} cells: {lines[number]}"
            for number in table
            if number != table.start + 1 and not has_columns(lines[number], count)
        ]
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_tables(path: Path) -> None:
    assert faults(path.read_text()) == []


def test_the_documents_have_tables() -> None:
    assert sum(len(lines_of(MARKDOWN.parse(path.read_text()), "table_open")) for path in DOCUMENTS) > 30


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("| c | d |", None),
        (r"| `a\|b` | d |", None),
        ("| c | |", None),
        ("| `a|b` | d |", "line 3 has not 2 cells: | `a|b` | d |"),
        ("| c |", "line 3 has not 2 cells: | c |"),
        ("\n| c | d |", "line 4 is in no table: | c | d |"),
        ("\n```\n| c | d |\n```", None),
    ],
)
def test_faults_are_found(row: str, fault: str | None) -> None:
    assert faults(f"| a | b |\n|---|---|\n{row}\n") == ([fault] if fault else [])
