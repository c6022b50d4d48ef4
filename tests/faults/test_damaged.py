"""Journals that were cut off or damaged while nobody served them: a start never takes them for whole."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from memcache_kv.errors import JournalError
from memcache_kv.journal import JournalDirectory, Recovered, recover
from tests.faults.scene import MANIFEST, THREE_FILES, Scene, refused_start
from tests.journal.tools.journals import new_store

pytestmark = pytest.mark.long

FLIPS = 1000
SERVED_FLIPS = 20
LAST = THREE_FILES[-1]


@pytest.fixture(scope="module", params=["stopped", "killed"])
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A journal of a base and two increments, and how its server ended."""
    journal = tmp_path_factory.mktemp("ended") / "journal"
    served = Scene(journal, "always")
    served.make_three_files(b"gr\xc3\xbcn and \xff binary" + b"v" * 60)
    if request.param == "killed":
        served.server.kill()
    served.close()
    return journal, request.param


@pytest.fixture
def journal(ended: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(ended[0], tmp_path / "journal")
    return tmp_path / "journal"


@pytest.fixture
def rng() -> random.Random:
    """Another each time, told when a test fails; FAULT_SEED repeats one."""
    seed = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(10**9))
    print(f"FAULT_SEED={seed}")
    return random.Random(seed)


def read_back(journal: Path) -> Recovered:
    """Read a journal as a start does. Raises JournalError."""
    with closing(JournalDirectory(journal)) as directory:
        manifest = directory.open()
        assert manifest is not None
        return recover(journal, directory.disk, manifest, new_store())


def refused_reading(journal: Path) -> str:
    """Read a journal that must be refused; return what is said."""
    with pytest.raises(JournalError) as caught:
        read_back(journal)
    return str(caught.value)


def line_around(content: bytes, place: int) -> range:
    """Say from where to where the line goes in which a place is."""
    end = content.find(b"\n", place) + 1
    return range(content.rfind(b"\n", 0, place) + 1, end or len(content))


# Bits


class Flipper:
    """Turns single bits of a journal's files, and puts everything back."""

    def __init__(self, journal: Path, rng: random.Random) -> None:
        self.journal = journal
        self._rng = rng
        self._contents = {name: (journal / name).read_bytes() for name in (MANIFEST, *THREE_FILES)}

    def flip(self) -> tuple[str, int]:
        """Turn one at a random place; return where that is."""
        names = list(self._contents)
        [name] = self._rng.choices(names, [len(content) + 200 for content in self._contents.values()])
        content = bytearray(self._contents[name])
        place = self._rng.randrange(len(content))
        content[place] ^= 1 << self._rng.randrange(8)
        (self.journal / name).write_bytes(content)
        return name, place

    def put_back(self) -> None:
        """Make the journal what it was."""
        for file in self.journal.iterdir():
            file.unlink()
        for name, content in self._contents.items():
            (self.journal / name).write_bytes(content)

    def expect_named(self, said: str, name: str, place: int) -> None:
        """The refusal tells the file, and the offset of a record no further than where the damage is."""
        assert str(self.journal / name) in said, (name, place)
        if name != MANIFEST:
            found = re.search(r" at offset (\d+): ", said)
            assert found, (said, name, place)
            assert int(found[1]) in (line_around(self._contents[name], place).start, 0), (said, place)

    def may_be_cut_off(self, name: str, place: int) -> bool:
        """Whether nothing says that the record around a place was on disk: no manifest, and no record behind the next.

        The record right behind damage may say so too, but can't always be checked.
        """
        content = self._contents[name]
        if name != LAST:
            return False
        if place == len(content) - 1:
            return True
        line = line_around(content, place)
        if place == line.stop - 1:  # without its line feed, it is one line with the next
            line = range(line.start, line_around(content, line.stop).stop)
            if line.stop == len(content):
                return line.start >= self._known_bytes
        behind = content[line_around(content, line.stop).stop :]
        known = [int(found) for found in re.findall(rb'"synced":(\d+)', behind)]
        return line.start >= max(known, default=0) and line.start >= self._known_bytes

    @property
    def _known_bytes(self) -> int:
        return int(json.loads(self._contents[MANIFEST])["increments"][-1].get("bytes", 0))

    def expect_torn(self, name: str, place: int) -> None:
        """What was taken nevertheless lost what follows the last whole record, and there is a copy of that."""
        assert self.may_be_cut_off(name, place), (name, place)
        start = line_around(self._contents[name], place).start
        [copy] = self.journal.glob("*.torn-*")
        cut = copy.read_bytes()
        assert (self.journal / name).stat().st_size == start
        assert len(cut) == len(self._contents[name]) - start
        assert [
            at for at, pair in enumerate(zip(cut, self._contents[name][start:], strict=True)) if len({*pair}) > 1
        ] == [place - start]


def test_no_bit_that_is_flipped_at_a_thousand_random_places_is_taken_for_what_was_written(
    journal: Path, rng: random.Random
) -> None:
    flipper = Flipper(journal, rng)
    hit = set()
    for _ in range(FLIPS):
        name, place = flipper.flip()
        hit.add(name)
        try:
            found = read_back(journal)
        except JournalError as error:
            flipper.expect_named(str(error), name, place)
        else:
            assert found.torn_bytes, f"bit at {place} of {name} was taken silently"
            flipper.expect_torn(name, place)
        flipper.put_back()
    assert hit == {MANIFEST, *THREE_FILES}
    assert not read_back(journal).torn_bytes


def test_a_server_does_not_start_on_a_flipped_bit_and_says_where_it_is(journal: Path, rng: random.Random) -> None:
    flipper = Flipper(journal, rng)
    for _ in range(SERVED_FLIPS // 2):  # for each of the two ways to end
        name, place = flipper.flip()
        if not flipper.may_be_cut_off(name, place):
            flipper.expect_named(refused_start(journal), name, place)
        flipper.put_back()


# Files that are cut off


def places_to_cut(content: bytes) -> dict[str, int]:
    """Name a place of each kind."""
    lines = content.splitlines(keepends=True)
    return {
        "to nothing": 0,
        "behind the first record": len(lines[0]),
        "in the first record": len(lines[0]) // 2,
        "in the middle of a record": len(b"".join(lines[:6])) + len(lines[6]) // 2,
        "behind a record": len(b"".join(lines[:6])),
        "before the last record": len(content) - len(lines[-1]),
        "in the last record": len(content) - len(lines[-1]) // 2,
        "before the last line feed": len(content) - 1,
    }


KINDS = list(places_to_cut(b"{}\n" * 10))


def expect_cut_in_a_killed_one(journal: Path, size: int, is_between: bool) -> None:
    """What stands behind what the manifest knows, in the file that was being written, may be torn.

    Cut in the middle of a record it is told of. Cut between two it is the one case that can't be told: it looks like a
    file that was not written further (docs/reference/journal_format.md, "Downsides").
    """
    served = Scene(journal, "always")
    try:
        torn = [copy.stat().st_size for copy in journal.glob("*.torn-*")]
        said = served.server.start_log()
        assert ("cut off its" in said) == (not is_between) == bool(torn)
        if torn:
            assert f"the last record was not finished; cut off its {torn[0]} bytes and kept them in" in said
    finally:
        served.close()


@pytest.mark.parametrize("name", THREE_FILES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_cut_off_is_refused_or_its_torn_record_told_of(
    journal: Path, ended: tuple[Path, str], name: str, kind: str
) -> None:
    content = (journal / name).read_bytes()
    size = places_to_cut(content)[kind]
    os.truncate(journal / name, size)
    known = int(re.findall(rb'"bytes":(\d+)', (journal / MANIFEST).read_bytes())[THREE_FILES.index(name)])
    if size >= known:
        assert (ended[1], name) == ("killed", LAST)
        expect_cut_in_a_killed_one(journal, size, content[size - 1 : size] == b"\n")
        return
    refuse = refused_start if kind == "behind a record" else refused_reading
    assert f"{journal / name} has {size} bytes and had {known}: it was cut off" in refuse(journal)
    assert (journal / name).stat().st_size == size


@pytest.mark.parametrize("left", [0, 1, 60, -1])
def test_a_manifest_that_was_cut_off_is_refused(journal: Path, left: int) -> None:
    content = (journal / MANIFEST).read_bytes()[:left]
    (journal / MANIFEST).write_bytes(content)
    assert f"{journal / MANIFEST} is damaged: it is cut off" in refused_reading(journal)
    assert (journal / MANIFEST).read_bytes() == content


@pytest.mark.parametrize("name", [MANIFEST, *THREE_FILES])
def test_a_file_that_is_missing_at_the_start_is_refused(journal: Path, name: str) -> None:
    (journal / name).unlink()
    said = refused_reading(journal)
    assert f"{journal / name} is missing" in said or f"but no {MANIFEST}: not starting empty beside it" in said
