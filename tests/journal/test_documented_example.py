"""The lines that docs/journal_format.md shows are lines that we read."""

from pathlib import Path

from memcache_kv.journal.record import parse_line

PAGE = Path(__file__).parents[2] / "docs/journal_format.md"


def test_the_example_lines_are_records() -> None:
    lines = [line for line in PAGE.read_bytes().splitlines() if line.startswith(b'{"crc"')]
    assert [parse_line(line).op for line in lines] == ["start", "set"]
