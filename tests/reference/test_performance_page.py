"""The figures of the documents are those that the benchmarks found."""

from pathlib import Path

import pytest

from benchmarks.all import PARTS
from benchmarks.page import DOCUMENTS, FIGURES, MARKED, read_parts, written


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_figures_are_those_that_were_found(path: Path) -> None:
    text = path.read_text()
    assert MARKED.search(text)
    assert text == written(text, read_parts()), "python -m benchmarks.page writes them anew"


def test_every_part_of_the_benchmarks_is_shown() -> None:
    shown = {found[1] for path in DOCUMENTS for found in MARKED.finditer(path.read_text())}
    assert shown == {*PARTS, "targets", "others", "readme", "redis"}


def test_every_plot_that_is_shown_is_kept() -> None:
    charts = [name for part in read_parts().values() for name in part["charts"]]
    assert charts
    assert [name for name in charts if not (FIGURES / f"{name}.svg").exists()] == []
