"""The keys of the load, and how often each is used."""

import gzip
import itertools
from collections import Counter
from pathlib import Path

import pytest

from clients.load_test.keys import Mix, keys_in, numbered_keys, room_for, row_keys, weights_of
from clients.load_test.wires.line import LineWire

DRAWN = 20_000


def drawn(distribution: str, ratio: float = 0.0) -> list[tuple[bytes, bool]]:
    keys = numbered_keys(100, 2)
    mix = Mix(LineWire(0), keys, weights_of(distribution, len(keys)), b"v", ratio)
    return list(itertools.islice(mix.requests(1), DRAWN))


def test_keys_have_their_size_and_are_distinct() -> None:
    for size in (3, 16, 250):
        keys = numbered_keys(5000, size)
        assert len(set(keys)) == 5000
        assert {len(key) for key in keys} == {size}
    assert len(set(numbered_keys(room_for(1), 1))) == room_for(1) == 36


def test_uniform_keys_are_as_likely() -> None:
    counts = Counter(drawn("uniform")).values()
    assert len(counts) == 100
    assert max(counts) < 2 * DRAWN / 100


def test_zipf_keys_are_likely_by_their_rank() -> None:
    counts = Counter(request for request, _ in drawn("zipf"))
    first, second, last = (counts[b"GET %b\n" % key] for key in (b"00", b"01", b"2r"))
    assert 1.5 < first / second < 2.5
    assert 0.15 < first / DRAWN < 0.25
    assert last < first / 20


def test_ratio_is_the_share_of_requests_that_store() -> None:
    requests = drawn("uniform", 0.3)
    stores = [request for request, is_get in requests if not is_get]
    assert 0.27 < len(stores) / DRAWN < 0.33
    assert all(request.startswith(b"PUT ") and request.endswith(b" v\n") for request in stores)
    assert {is_get for _, is_get in drawn("uniform", 1.0)} == {False}


def test_the_same_seed_gives_the_same_requests() -> None:
    assert drawn("zipf", 0.5) == drawn("zipf", 0.5)


@pytest.mark.parametrize("name", ["rows.txt", "rows.txt.gz"])
def test_the_keys_of_a_data_file_are_read(tmp_path: Path, name: str) -> None:
    path, text = tmp_path / name, b"a 1\nb two words\n\nc\n"
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    assert keys_in(path) == [b"a", b"b", b"c"]


def test_rows_have_uuid_keys() -> None:
    assert {len(key) for key in row_keys(10)} == {36}
