"""docs/howto/faults.md has every fault, with the options, the direction and the picking that the code has."""

import inspect
import re
from pathlib import Path

import pytest

from memcache_kv.testing.faults import FAULTS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "howto" / "faults.md"
ROWS = {
    cells[0].strip("`"): cells
    for line in PAGE.read_text().splitlines()
    if line.startswith("| `") and (cells := [cell.strip() for cell in line.split("|")[1:-1]])
}


def test_every_fault_has_a_row() -> None:
    assert list(ROWS) == list(FAULTS)


@pytest.mark.parametrize("kind", FAULTS)
def test_a_row_says_what_the_code_says(kind: str) -> None:
    _, _, options, direction, picks = ROWS[kind]
    parameters = inspect.signature(FAULTS[kind]).parameters.values()
    named = re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", options))
    assert named == [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    assert direction == ("yes" if FAULTS[kind].can_choose else "")
    assert bool(picks) == FAULTS[kind].picks
