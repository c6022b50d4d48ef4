"""The lines that docs/reference/journal_format.md shows are lines that we read."""

import zlib
from pathlib import Path
from zlib import crc32

import pytest

from memcache_kv.journal.manifest import parse_manifest
from memcache_kv.journal.record import FORMAT_VERSION
from tests.journal.journals import records_of

PAGE = Path(__file__).parents[2] / "docs/reference/journal_format.md"
ID = "5f1c09d2a86be374"
LEFT_OUT = '{"crc":"…",'
"""How a line begins whose checksum the page does not show."""


def lines_that_begin(text: str) -> list[str]:
    return [line for line in PAGE.read_text().splitlines() if line.startswith(text)]


def test_the_example_lines_are_records() -> None:
    lines = [line for line in lines_that_begin('{"crc"') if not line.startswith(LEFT_OUT)]
    content = "".join(f"{line}\n" for line in lines).encode()
    start, value, time, delete = records_of(content)
    assert [record.op for record in (start, value, time, delete)] == ["start", "set", "time", "delete"]
    assert (start.version, start.id) == (FORMAT_VERSION, ID)
    assert time.synced == content.index(b"\n", content.index(b"\n") + 1) + 1


def test_the_example_of_a_reader_accepts_the_example_lines_in_their_order_only(tmp_path: Path) -> None:
    example = PAGE.read_text().partition("checksum = 0\n")
    code = example[1] + example[2].partition("```")[0]
    lines = [line for line in lines_that_begin('{"crc"') if not line.startswith(LEFT_OUT)]
    file = tmp_path / "increment-000001.jsonl"
    code = code.replace("increment-000001.jsonl", str(file))
    file.write_text("".join(f"{line}\n" for line in lines))
    exec(code, {"zlib": zlib, "Path": Path})
    for changed in (lines[1:], [*lines[:1], *lines[2:]], [lines[0], lines[2], lines[1]], [*lines[:2], *lines[1:]]):
        file.write_text("".join(f"{line}\n" for line in changed))
        with pytest.raises(AssertionError):
            exec(code, {"zlib": zlib, "Path": Path})


def test_the_example_of_a_manifest_is_one_of_this_version() -> None:
    [line] = lines_that_begin(LEFT_OUT)
    body = line.partition('"op"')
    checksum = b"%08x" % crc32((body[1] + body[2]).encode())
    manifest = parse_manifest(line.encode().replace("…".encode(), checksum) + b"\n")
    assert (manifest.version, manifest.id) == (FORMAT_VERSION, ID)
    assert [part.name for part in manifest.parts] == ["base-000002.jsonl", "increment-000002.jsonl"]
    assert [part.name for kept in manifest.kept for part in kept.parts] == ["increment-000001.jsonl"]
    assert manifest.serial == 4
    assert f'"len":{len(body[1] + body[2])},' in line
