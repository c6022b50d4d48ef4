"""Tables of figures, for a terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rich.table import Table

Figure: TypeAlias = "str | float | None"
COUNT = "{:,.0f}"
RATIO = "{:.2f}"
SECONDS = "{:.2f}"
SHARE = "{:.0%}"


@dataclass(frozen=True)
class Column:
    """Name a column, and say how its figures are spelled."""

    name: str
    form: str = "{}"

    def spell(self, figure: Figure) -> str:
        """Spell a figure; None is an empty cell."""
        return "" if figure is None else self.form.format(figure)


@dataclass
class Section:
    """Hold what was measured in one part, a row for each server and circumstance."""

    title: str
    columns: tuple[Column, ...]
    rows: list[tuple[Figure, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def cells(self) -> list[list[str]]:
        """Spell all rows."""
        return [[column.spell(each) for column, each in zip(self.columns, row, strict=True)] for row in self.rows]

    def as_dict(self) -> dict[str, object]:
        """Give what `from_dict` makes the section of again, for JSON."""
        columns = [[column.name, column.form] for column in self.columns]
        return {"title": self.title, "columns": columns, "rows": [list(row) for row in self.rows], "notes": self.notes}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Section:
        """Make the section that `as_dict` gave."""
        columns = tuple(Column(name, form) for name, form in found["columns"])
        return cls(found["title"], columns, [tuple(row) for row in found["rows"]], found["notes"])

    def as_table(self) -> Table:
        """Lay the rows out for a terminal."""
        table = Table(*(column.name for column in self.columns), title=self.title, title_justify="left")
        for column, described in zip(table.columns, self.columns, strict=True):
            column.justify = "left" if described.form == "{}" else "right"
        for cells in self.cells():
            table.add_row(*cells)
        return table

    def as_markdown(self) -> str:
        """Lay the rows out as a Markdown table with a heading, and the notes below it."""
        rules = ["---" if column.form == "{}" else "---:" for column in self.columns]
        lines = [[column.name for column in self.columns], rules, *self.cells()]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"### {self.title}\n\n{table}\n\n{_listed(self.notes)}"


def as_markdown(sections: list[Section], notes: list[str]) -> str:
    """Lay all sections out as Markdown."""
    return "\n".join([*(section.as_markdown() for section in sections), _listed(notes)])


def as_json(sections: list[Section], notes: list[str]) -> str:
    """Spell sections and notes as JSON."""
    found = {
        section.title: {
            "rows": [dict(zip((c.name for c in section.columns), row, strict=True)) for row in section.rows],
            "notes": section.notes,
        }
        for section in sections
    }
    return json.dumps({"sections": found, "notes": notes}, indent=2) + "\n"


def _listed(notes: list[str]) -> str:
    return "".join(f"- {note}\n" for note in notes)
