"""The manifest: what of it is believed, and what is refused rather than to start without."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcache_kv.errors import JournalCorrupt, JournalError
from memcache_kv.journal.manifest import (
    MANIFEST_NAME,
    Manifest,
    Part,
    base_name,
    increment_name,
    number_of,
    parse_manifest,
)
from memcache_kv.journal.record import FORMAT_VERSION, decode_line, framed, set_line
from tests.journal.disk import Disk, broken
from tests.journal.history import replay
from tests.journal.journals import (
    FIRST,
    START,
    STARTED,
    Run,
    keys_in,
    make_journal,
    manifest_in,
    names_in,
    write_manifest,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The directory of a journal of one value."""
    path = tmp_path / "journal"
    run = Run(path)
    run.store(b"a")
    run.close()
    return path


def line_of_manifest(manifest: Manifest) -> bytes:
    return framed(msgspec.json.encode(manifest)[1:])


def refused(path: Path, reason: str, kind: type[JournalError] = JournalCorrupt) -> None:
    """Demand that a journal is not opened for this reason, and that nothing in it is changed."""
    before = {name: (path / name).read_bytes() for name in names_in(path)}
    with pytest.raises(kind, match=reason):
        Run(path)
    assert {name: (path / name).read_bytes() for name in names_in(path)} == before


def test_it_is_one_line_of_json_that_names_each_file_with_its_length(path: Path) -> None:
    content = (path / MANIFEST_NAME).read_bytes()
    assert content.count(b"\n") == 1
    fields = msgspec.json.decode(content)
    size = (path / FIRST).stat().st_size
    assert {key: fields[key] for key in list(fields)[2:]} == {
        "op": "manifest",
        "version": FORMAT_VERSION,
        "increments": [{"name": FIRST, "bytes": size}],
        "id": decode_line((path / FIRST).read_bytes().partition(b"\n")[0]).id,
        "serial": fields["serial"],
    }
    Run(path).close()
    assert manifest_in(path).serial > fields["serial"] > 0


NUMBERS = st.integers(1, 10**7)
LENGTHS = st.integers(0, 2**60)
BASES = st.none() | st.builds(Part, NUMBERS.map(base_name), LENGTHS)
INCREMENTS = st.builds(Part, NUMBERS.map(increment_name), LENGTHS)


@given(BASES, st.lists(INCREMENTS, min_size=1))
def test_what_is_written_is_what_is_read(base: Part | None, increments: list[Part]) -> None:
    manifest = Manifest(FORMAT_VERSION, base, tuple(increments))
    assert parse_manifest(line_of_manifest(manifest)) == manifest


def test_any_changed_byte_is_noticed(path: Path) -> None:
    content = (path / MANIFEST_NAME).read_bytes()
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1
        with pytest.raises(ValueError):
            parse_manifest(bytes(damaged))


def test_a_damaged_manifest_is_refused_with_the_way_out(path: Path) -> None:
    content = (path / MANIFEST_NAME).read_bytes()
    (path / MANIFEST_NAME).write_bytes(content.replace(b"increment-000001", b"increment-000007"))
    refused(path, f"{MANIFEST_NAME} is damaged: .*checksum.*`memcache-kv journal repair {path}`")


@pytest.mark.parametrize("length", [0, 1, 30, -2, -1])
def test_a_manifest_that_is_cut_off_is_refused(path: Path, length: int) -> None:
    content = (path / MANIFEST_NAME).read_bytes()
    (path / MANIFEST_NAME).write_bytes(content[:length])
    refused(path, "is damaged: it is cut off")


def test_a_manifest_longer_than_any_could_be_is_refused(path: Path) -> None:
    with (path / MANIFEST_NAME).open("ab") as file:
        file.write(bytes(2 << 20))
    refused(path, "is damaged: it is cut off")


def test_a_manifest_of_a_newer_version_is_refused_as_such(path: Path) -> None:
    write_manifest(path, Manifest(FORMAT_VERSION + 1, None, (Part(FIRST),)))
    refused(path, f"written in format {FORMAT_VERSION + 1}.*use a newer memcache_kv", JournalError)


@pytest.mark.parametrize(
    "name",
    ["", "lock", "photo.jpg", f"../journal/{FIRST}", f"{FIRST}.torn-1", "increment-000000.jsonl", "increment-²3.jsonl",
     "/etc/passwd", "increment-000001.json", "manifest.json"],
)  # fmt: skip
def test_a_manifest_that_names_a_file_which_is_none_of_the_journal_s_is_refused(path: Path, name: str) -> None:
    write_manifest(path, Manifest(FORMAT_VERSION, None, (Part(FIRST), Part(name))))
    refused(path, "does not name a journal's files")
    write_manifest(path, Manifest(FORMAT_VERSION, Part(name), (Part(FIRST),)))
    refused(path, "does not name a journal's files")


def test_a_manifest_that_names_no_increment_is_refused(path: Path) -> None:
    write_manifest(path, Manifest(FORMAT_VERSION, Part(base_name(1))))
    refused(path, "does not name a journal's files")


@pytest.mark.parametrize(
    "body", [b'"op":"set","key":"a","value":"b"}', b'"op":"manifest","increments":7}', b'"op":"manifest",']
)
def test_a_line_that_is_whole_but_no_manifest_is_refused(path: Path, body: bytes) -> None:
    (path / MANIFEST_NAME).write_bytes(framed(body))
    refused(path, f"{MANIFEST_NAME} is damaged")


def test_a_file_that_is_missing_is_refused_by_its_name(path: Path) -> None:
    (path / FIRST).unlink()
    refused(path, f"{FIRST} is missing, .*`memcache-kv journal repair {path}`")


def test_a_base_that_is_missing_is_refused_by_its_name(path: Path) -> None:
    write_manifest(path, Manifest(FORMAT_VERSION, Part(base_name(1), 100), (Part(FIRST),)))
    refused(path, f"{base_name(1)} is missing")


def test_a_file_that_is_shorter_than_it_is_known_to_be_is_refused(path: Path) -> None:
    size = (path / FIRST).stat().st_size
    content = (path / FIRST).read_bytes()
    (path / FIRST).write_bytes(content[:-1])
    refused(path, f"{FIRST} has {size - 1} bytes and had {size}: it was cut off")


def test_an_end_that_was_acknowledged_before_a_peaceful_end_is_missed_when_it_is_gone(path: Path) -> None:
    """What was appended since the manifest is not known of: that of an end in peace knows all."""
    content = (path / FIRST).read_bytes()
    *lines, last = content.splitlines(keepends=True)
    assert decode_line(last).key == "a"
    (path / FIRST).write_bytes(b"".join(lines))
    refused(path, "it was cut off")


def test_the_end_of_the_last_file_may_be_longer_than_is_known(tmp_path: Path) -> None:
    make_journal(tmp_path, START + set_line(b"a", 0, 0, 0, b"1"), known=len(START))
    store, _ = replay(tmp_path, STARTED)
    assert len(store) == 1


def test_a_directory_whose_manifest_is_gone_is_refused(path: Path) -> None:
    (path / MANIFEST_NAME).unlink()
    refused(path, f"holds '{FIRST}' but no {MANIFEST_NAME}: not starting empty beside it")


def test_files_of_others_beside_a_journal_are_left_alone(path: Path) -> None:
    others = {"photo.jpg", "increment-1.json", f"{FIRST}.torn-1", f"{FIRST}.unlisted", "notes.tmp", "base-x.jsonl"}
    for name in others:
        (path / name).write_bytes(b"of another")
    run = Run(path)
    run.journal.rotate()
    run.close()
    assert others < names_in(path)
    assert all((path / name).read_bytes() == b"of another" for name in others)


@pytest.mark.parametrize("failing", ["create", "write", "sync", "rename"])
def test_a_manifest_that_cannot_be_replaced_leaves_the_old_one(path: Path, disk: Disk, failing: str) -> None:
    run = Run(path)
    before = (path / MANIFEST_NAME).read_bytes()
    disk.errors[f"{failing} manifest.json.tmp"] = broken()
    with pytest.raises(OSError, match="Input/output"):
        run.journal.files.replace_tail(b"")
    assert (path / MANIFEST_NAME).read_bytes() == before
    run.crash()
    disk.mend()
    assert keys_in(path) == [b"a"]
    Run(path).close()
    assert keys_in(path) == [b"a"]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("increment-000001.jsonl", 1),
        ("base-000012.jsonl", 12),
        ("journal-000001.jsonl", 1),
        ("increment-1234567.jsonl", 1234567),
        ("increment-.jsonl", 0),
        ("increment-1.jsonl.tmp", 0),
        ("lock", 0),
        ("other-000001.jsonl", 0),
        ("base-٣.jsonl", 0),
    ],
)
def test_a_file_s_number_is_read_from_its_name(name: str, number: int) -> None:
    assert number_of(name) == number
