"""The lines that docs/reference/journal_format.md shows are lines that we read."""

from pathlib import Path
from zlib import crc32

from memcache_kv.journal.manifest import parse_manifest
from memcache_kv.journal.record import FORMAT_VERSION, parse_line

PAGE = Path(__file__).parents[2] / "docs/reference/journal_format.md"
LEFT_OUT = '{"crc":"…",'
"""How a line begins whose checksum the page does not show."""


def lines_that_begin(text: str) -> list[str]:
    return [line for line in PAGE.read_text().splitlines() if line.startswith(text)]


def test_the_example_lines_are_records() -> None:
    lines = [line for line in lines_that_begin('{"crc"') if not line.startswith(LEFT_OUT)]
    assert [parse_line(line.encode()).op for line in lines] == ["start", "set"]


def test_the_example_of_a_manifest_is_one_of_this_version() -> None:
    [line] = lines_that_begin(LEFT_OUT)
    body = line.partition('"op"')
    checksum = b"%08x" % crc32((body[1] + body[2]).encode())
    manifest = parse_manifest(line.encode().replace("…".encode(), checksum) + b"\n")
    assert manifest.version == FORMAT_VERSION
    assert [part.name for part in manifest.parts] == ["base-000002.jsonl", "increment-000002.jsonl"]
