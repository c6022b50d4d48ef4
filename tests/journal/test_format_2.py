"""A journal that the last release with format 2 wrote: a base and two increments, in the directory beside this file."""

import shutil
from pathlib import Path

import pytest

from memcache_kv.errors import JournalCorrupt
from memcache_kv.journal.manifest import Part, base_name, increment_name
from memcache_kv.journal.tools.verify import verify
from tests.journal.history import STARTED, History, replay, shown
from tests.journal.journals import manifest_in, names_in, records_in

FORMAT_2 = Path(__file__).parent / "format_2"
ITEMS = {
    b"text": (b"hello", 7, 1_900_000_001, 1, 0),
    b"late": ("grün\r\n".encode(), 0, 1_900_000_000, 0, 0),
    b"\xff\xfe": (b"\x00\xffbinary", 0, 0, 0, 0),
    b"more": (b"x" * 30, 1, 0, 0, 0),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A copy of that journal."""
    return Path(shutil.copytree(FORMAT_2, tmp_path / "journal"))


def test_it_is_read(path: Path) -> None:
    store, found = replay(path, STARTED + 10)
    assert (shown(store), found.records) == (ITEMS, 14)
    assert verify(path).is_sound


def test_it_goes_on_in_a_new_increment_of_format_3(path: Path) -> None:
    before = {name: (path / name).read_bytes() for name in names_in(path)}
    for key in (b"a", b"b"):
        History.resume(path, STARTED + 10).play([("plain", key, 0, b"new")])
    for name in (base_name(2), increment_name(2), increment_name(3)):
        assert (path / name).read_bytes() == before[name]
    manifest = manifest_in(path)
    assert manifest.version == 3
    assert [part.name for part in manifest.parts] == [base_name(2), *map(increment_name, (2, 3, 4))]
    starts = [record for record in records_in(path) if record.op == "start"]
    assert [start.version for start in starts] == [2, 2, 2, 3, 3]
    assert {start.id for start in starts[3:]} == {manifest.id} != {""}
    new = dict.fromkeys((b"a", b"b"), (b"new", 0, 0, 0, 0))
    assert shown(replay(path, STARTED + 20)[0]) == ITEMS | new
    assert verify(path).is_sound


def test_its_last_increment_may_not_change_once_a_new_one_continues_it(path: Path) -> None:
    History.resume(path, STARTED + 10).play([])
    content = (path / increment_name(3)).read_bytes()
    lines = content.splitlines(keepends=True)
    (path / increment_name(3)).write_bytes(b"".join([*lines[:-2], lines[-1], lines[-2]]))
    assert manifest_in(path).increments[1] == Part(increment_name(3), len(content))
    with pytest.raises(JournalCorrupt, match=f"{increment_name(4)} is damaged at offset 0"):
        replay(path, STARTED + 20)


def test_damage_is_refused_wherever_it_is(path: Path) -> None:
    file = path / increment_name(3)
    with file.open("ab") as added:
        added.write(b"damage\n")
    with pytest.raises(JournalCorrupt, match="damaged at offset 299"):
        replay(path, STARTED + 10)


def test_a_line_that_was_moved_is_not_seen_in_that_format(path: Path) -> None:
    file = path / increment_name(3)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:2], lines[3], lines[2]]))
    assert shown(replay(path, STARTED + 10)[0]) == ITEMS


def test_a_rewrite_leaves_only_format_3(path: Path) -> None:
    History.resume(path, STARTED + 10).play([("compact",)])
    assert {record.version for record in records_in(path) if record.op == "start"} == {3}
    assert shown(replay(path, STARTED + 20)[0]) == ITEMS
