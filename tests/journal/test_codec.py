"""The encoder in use, compiled or not."""

from memcache_kv.journal.codec import encode_queue
from memcache_kv.journal.record import ENCODED, parse_line, queue_lines
from memcache_kv.store.entry import Entry, Item, make_entry, pack


def test_it_encodes_as_the_python_encoder_does_what_the_compiled_one_leaves_to_it_too() -> None:
    known: list[Entry] = [b"a", pack(7, b"x"), ENCODED, b"line\n", b"b", make_entry(b"b", pack(0, b"\xff"), 9, 8)]
    late: list[Entry] = [b"c", Item(pack(0, b"y"), deadline=1 << 62)]
    for queue in (known, late, known + late):
        assert encode_queue(queue, 3) == queue_lines(queue, 3)
    assert parse_line(encode_queue(late, 3)[:-1]).exp == (1 << 62) + 3
