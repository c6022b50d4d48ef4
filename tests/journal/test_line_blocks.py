"""Reading a file in blocks of complete lines."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcache_kv.journal import disk
from memcache_kv.journal.disk import SystemDisk
from memcache_kv.journal.line_blocks import LONG_LINE_BYTES, LineBlocks
from memcache_kv.journal.record import framed, set_line


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lines") / "file"


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 3000), max_size=30), st.integers(1, 900), st.integers(0, 40), st.booleans())
def test_blocks_are_the_lines_of_the_file_whatever_is_given_back(
    path: Path, sizes: list[int], block_bytes: int, cut: int, gives_back: bool
) -> None:
    lines = [set_line(b"key", 0, 0, 0, b"x" * size) for size in sizes]
    path.write_bytes(b"".join(lines)[: -cut or None])
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "BLOCK_BYTES", block_bytes)
        blocks = LineBlocks(SystemDisk(), path, None)
        for block in blocks:
            found.append(bytes(block))
            if gives_back:
                blocks.give_back(block)
    content = path.read_bytes()
    assert b"".join(found) == content[: content.rfind(b"\n") + 1]
    assert all(block.endswith(b"\n") for block in found)


def test_a_block_that_is_still_referred_to_is_not_read_into(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = framed(b'"op":"flush","at":1')
    monkeypatch.setattr(disk, "BLOCK_BYTES", 4 * len(line))  # so that no buffer changes its length
    path.write_bytes(line * 100)
    blocks = LineBlocks(SystemDisk(), path, None)
    views, contents = [], []
    for block in blocks:
        views.append(memoryview(block))
        contents.append(bytes(block))
        blocks.give_back(block)
    assert [bytes(view) for view in views] == contents
    assert len({id(view.obj) for view in views}) == len(views) > 10


def test_what_states_no_length_or_has_a_zero_is_not_kept_for_long(path: Path) -> None:
    for content in (b"x" * (20 * LONG_LINE_BYTES), bytes(20 * LONG_LINE_BYTES)):
        path.write_bytes(set_line(b"key", 0, 0, 0, b"x") + content + b"\n" + set_line(b"key", 0, 0, 0, b"y"))
        assert [bytes(block) for block in LineBlocks(SystemDisk(), path, None)] == [set_line(b"key", 0, 0, 0, b"x")]


def test_a_long_line_is_read_into_no_more_memory_than_it_takes(path: Path) -> None:
    line = set_line(b"key", 0, 0, 0, b"x" * 900_000)
    path.write_bytes(line * 4)
    sizes = [block.__alloc__() for block in LineBlocks(SystemDisk(), path, None)]
    assert len(sizes) == 4
    assert max(sizes) < len(line) + 2 * disk.BLOCK_BYTES


def test_no_more_is_read_than_the_limit(path: Path) -> None:
    line = set_line(b"key", 0, 0, 0, b"x")
    path.write_bytes(line * 3)
    assert b"".join(LineBlocks(SystemDisk(), path, 2 * len(line) + 5)) == line * 2
