"""The figures of a run get into the documents."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.all import as_json
from benchmarks.charts import Bars
from benchmarks.durability_report import RATIO, Column, Section
from benchmarks.page import others_table, part_text, read_parts, update, ways_table, written
from benchmarks.parts import Findings, Target
from benchmarks.ways import Way

COMPILED, PURE = Way("python", "CPython 3.11.2", True), Way("python", "CPython 3.11.2", False, ("env", "X=1"))
DOCUMENT = "# Title\n\nbefore\n\n<!-- figures: loads -->\n\nold\n\n<!-- end of figures -->\n\nafter\n"


def findings(ratio: float) -> Findings:
    section = Section("loads", (Column("load"), Column("ratio", RATIO)), [("get90", ratio)], ["a note"])
    found = Findings([section], {"bars": Bars("Bars", "ratio", ["a"], {"b": [1.0]})})
    found.reach("get90: throughput", ratio, COMPILED, 1.0, 0.6)
    found.reach("get90: throughput", ratio - 0.5, PURE, 1.0, 0.6)
    found.aim("start", 130.0, 120)
    return found


def parts(ratio: float) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(as_json({"loads": findings(ratio)}, ["a run"]))["parts"]
    return found


def write_run(directory: Path, ratio: float, part: str = "loads") -> Path:
    directory.mkdir()
    (directory / "benchmarks.json").write_text(as_json({part: findings(ratio)}, ["a run"]))
    (directory / "bars.svg").write_text(f"{ratio}")
    return directory


def test_a_marked_part_is_written_and_nothing_else() -> None:
    text = written(DOCUMENT, parts(1.25))
    assert text.startswith("# Title\n\nbefore\n\n<!-- figures: loads -->\n\n### loads\n")
    assert text.endswith("\n<!-- end of figures -->\n\nafter\n")
    assert "| get90 | 1.25 |" in text
    assert "old" not in text
    assert written(text, parts(1.25)) == text


def test_a_part_shows_its_tables_plots_and_notes() -> None:
    assert part_text(parts(1.25)["loads"]) == (
        "### loads\n\n| load | ratio |\n| --- | ---: |\n| get90 | 1.25 |\n\n- a note\n\n"
        "![Bars](figures/bars.svg)\n\n- a run\n"
    )


def test_a_part_that_was_not_measured_says_so() -> None:
    assert "Not measured yet." in written(DOCUMENT.replace("loads", "tails"), parts(1.25))


def test_ways_stand_side_by_side_with_their_own_targets() -> None:
    table = ways_table(findings(0.9).targets, {"get90: throughput": "gets", "none": "left out"}, with_bounds=True)
    assert table == (
        "|  | compiled: target | pure: target | compiled, CPython 3.11.2 | pure, CPython 3.11.2 |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| gets | ≥ 1 | ≥ 0.6 | 0.90 **no** | 0.40 **no** |\n"
    )


def test_a_way_without_a_figure_has_an_empty_cell() -> None:
    targets = [Target("a", 1.0, None, True, "pure, x"), Target("b", 2.0, None, True, "pure, y")]
    table = ways_table(targets, {"a": "A", "b": "B"}, with_bounds=False)
    assert table.splitlines()[2:] == ["| A | 1.00 |  |", "| B |  | 2.00 |"]


def test_a_figure_of_no_way_has_a_row() -> None:
    assert others_table(findings(1.0).targets).splitlines()[2:] == ["| start | ≤ 120 | 130 | **no** |"]


@pytest.mark.parametrize(("bound", "met"), [(1.0, True), (2.0, False), (None, None)])
def test_a_figure_without_a_bound_is_neither_met_nor_missed(bound: float | None, met: bool | None) -> None:
    assert Target("a", 1.5, bound, at_least=True).met is met


def test_a_run_replaces_the_parts_that_it_has(tmp_path: Path) -> None:
    kept, document = tmp_path / "kept.json", tmp_path / "page.md"
    kept.write_text(json.dumps({"parts": {**parts(1.0), "tails": parts(2.0)["loads"]}}))
    document.write_text(DOCUMENT)
    update(write_run(tmp_path / "found", 3.0), [document], kept)
    assert "| get90 | 3.00 |" in document.read_text()
    assert (tmp_path / "bars.svg").read_text() == "3.0"
    assert read_parts(kept)["tails"]["sections"][0]["rows"] == [["get90", 2.0]]


def test_without_a_run_what_is_kept_is_written(tmp_path: Path) -> None:
    kept, document = tmp_path / "kept.json", tmp_path / "page.md"
    kept.write_text(json.dumps({"parts": parts(1.5)}))
    document.write_text(DOCUMENT)
    update(None, [document], kept)
    assert "| get90 | 1.50 |" in document.read_text()
