"""Reading `key value` lines, however they lie in the blocks of a file."""

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcache_kv.datafile import lines
from memcache_kv.datafile.lines import Rejected, read_batches

LIMIT_BYTES = 300


class Trickle(io.BytesIO):
    """A file that gives as many bytes at once as it likes."""

    def __init__(self, content: bytes, seed: int) -> None:
        super().__init__(content)
        self._random = random.Random(seed)

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self._random.randint(1, 700))


def read(content: bytes, seed: int | None = None, limit_bytes: int = LIMIT_BYTES) -> tuple[object, list[Rejected]]:
    file = io.BytesIO(content) if seed is None else Trickle(content, seed)
    batches = list(read_batches(file, limit_bytes))
    pairs = [pair for batch in batches for pair in zip(batch.keys, batch.values, strict=True)]
    return pairs, [line for batch in batches for line in batch.rejected]


@pytest.mark.parametrize(
    ("line", "pair"),
    [
        (b"key value", (b"key", b"value")),
        (b"key\tvalue", (b"key", b"value")),
        (b"key a value with spaces ", (b"key", b"a value with spaces ")),
        (b"key\ta\tb", (b"key", b"a\tb")),
        (b"key  two", (b"key", b" two")),
        (b"key ", (b"key", b"")),
        (b"key value\r", (b"key", b"value")),
        (b"key \x00\x01\xff", (b"key", b"\x00\x01\xff")),
        (b"k\xc3\xa4se gr\xc3\xbcn", (b"k\xc3\xa4se", b"gr\xc3\xbcn")),
        (b"k" * 250 + b" v", (b"k" * 250, b"v")),
    ],
)
@pytest.mark.parametrize("end", [b"", b"\n", b"\nnext 1\n"])
def test_a_line_is_a_key_one_blank_and_the_value(line: bytes, pair: tuple[bytes, bytes], end: bytes) -> None:
    assert read(line + end) == ([pair, (b"next", b"1")] if b"next" in end else [pair], [])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "the line is empty"),
        (b"\r", "the line is empty"),
        (b"key", "there is no value after the key"),
        (b" value", "the line begins with a space: there is no key"),
        (b"k" * 251 + b" v", "the key has 251 bytes; the limit is 250"),
        (b"k\x01 v", "the key contains a control character"),
        (b"k\x7f v", "the key contains a control character"),
        (b"k " + b"v" * 299, "the line has 301 bytes; the limit is 300"),
        (b"k\t" + b"v" * 299, "the line has 301 bytes; the limit is 300"),
        (b"k " + b"v" * 900_000, "the line has 900002 bytes; the limit is 300"),
    ],
)
@pytest.mark.parametrize("around", [(b"", b""), (b"a 1\nb 2\n", b"\nc 3\n"), (b"a\t1\nb 2\n", b"\nc 3\n")])
def test_a_line_that_is_no_item_is_rejected_with_its_number(
    line: bytes, reason: str, around: tuple[bytes, bytes]
) -> None:
    before, after = around
    end = after or b"\n"
    pairs = [(b"a", b"1"), (b"b", b"2")] if before else []
    pairs += [(b"c", b"3")] if after else []
    for seed in (None, 1, 2, 3):
        assert read(before + line + end, seed) == (pairs, [Rejected(before.count(b"\n") + 1, reason)])


def test_an_empty_file_has_no_items() -> None:
    assert read(b"") == ([], [])


def test_a_line_without_an_end_is_not_kept() -> None:
    """What is kept of it is the limit and a block at most."""

    class Endless(io.BytesIO):
        left = 2000

        def read(self, size: int | None = -1) -> bytes:
            self.left -= 1
            return b"x" * lines.SPLIT_BYTES if self.left else b""

    rejected = [line for batch in read_batches(Endless(), 1000) for line in batch.rejected]
    assert rejected == [Rejected(1, f"the line has {1999 * lines.SPLIT_BYTES} bytes; the limit is 1000")]


CONTENT = st.lists(
    st.one_of(
        st.sampled_from([b"", b"\r", b"a 1", b"b\t2\r", b"novalue", b" x", b"k" * 251 + b" v", b"c " + b"v" * 400]),
        st.binary(max_size=20),
    ),
    max_size=30,
).map(b"\n".join)


@given(CONTENT, st.integers(0, 1000))
def test_the_blocks_make_no_difference(content: bytes, seed: int) -> None:
    whole = read(content)
    assert read(content, seed) == whole
    pairs, rejected = whole
    assert isinstance(pairs, list)
    assert len(pairs) + len(rejected) == len(content.removesuffix(b"\n").split(b"\n")) - (not content)
