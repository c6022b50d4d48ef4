"""The encoder in use, compiled or not."""

from collections.abc import Callable

import pytest

from memcache_kv.journal.codec import encode_queue, rechained
from memcache_kv.journal.record import ENCODED, Record, line_of, parse_line, queue_lines, rechained_lines
from memcache_kv.store.entry import Entry, Item, make_entry, pack

Rechain = Callable[[bytes, int], tuple[bytes, int]]


def test_it_encodes_as_the_python_encoder_does_what_the_compiled_one_leaves_to_it_too() -> None:
    known: list[Entry] = [
        b"a",
        pack(7, b"x"),
        ENCODED,
        line_of(Record("time", at=7)) * 2,
        b"b",
        make_entry(b"b", pack(0, b"\xff"), 9, 8),
    ]
    late: list[Entry] = [b"c", Item(pack(0, b"y"), deadline=1 << 62)]
    for queue in (known, late, known + late):
        assert encode_queue(queue, 3, 77) == queue_lines(queue, 3, 77)
    assert parse_line(encode_queue(late, 3)[0][:-1]).exp == (1 << 62) + 3


@pytest.mark.parametrize("way", [rechained, rechained_lines])
def test_lines_that_are_chained_anew_are_those_that_are_encoded_there(way: Rechain) -> None:
    queue: list[Entry] = [b"a", pack(7, b"x"), ENCODED, line_of(Record("time", at=7)), b"b", pack(0, b"\xff")]
    data, _ = encode_queue(queue, 0, 0)
    for chain in (0, 1, 0xFFFFFFFF):
        assert way(data, chain) == encode_queue(queue, 0, chain)
    assert way(b"", 5) == (b"", 5)


@pytest.mark.parametrize("way", [rechained, rechained_lines])
@pytest.mark.parametrize("change", [(b"\n", b""), (b'{"crc', b'{"csc'), (b'"len":', b'"len":1'), (b"\n", b"\n\n")])
def test_what_is_no_line_can_not_be_chained(way: Rechain, change: tuple[bytes, bytes]) -> None:
    line = line_of(Record("time", at=123456))
    assert way(line, 1)[0] != line
    with pytest.raises(ValueError, match=r"line|record"):
        way(line.replace(*change), 1)
