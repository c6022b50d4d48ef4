"""Counts per prefix of the key."""

import threading
import tracemalloc

import pytest

from memcache_kv.observe import prefixes
from memcache_kv.observe.prefixes import PREFIXES_AT_ONCE, Prefixes


def dumped(counted: Prefixes) -> list[bytes]:
    """The lines of a dump but for its END."""
    lines = b"".join(counted.dump()).split(b"\r\n")
    assert lines[-2:] == [b"END", b""]
    return lines[:-2]


def test_nothing_counted_is_an_empty_dump() -> None:
    assert list(Prefixes().dump()) == [b"END\r\n"]


def test_commands_are_counted_by_what_their_keys_begin_with() -> None:
    counted = Prefixes()
    counted.stored(b"user:1")
    counted.fetched(b"user:1", True)
    counted.fetched(b"user:2", False)
    counted.deleted(b"user:3")
    counted.fetched(b"page:user:1", True)
    assert dumped(counted) == [b"PREFIX user get 2 hit 1 set 1 del 1", b"PREFIX page get 1 hit 1 set 0 del 0"]


@pytest.mark.parametrize("key", [b"user", b"", b"use"])
def test_a_key_without_the_delimiter_is_not_counted(key: bytes) -> None:
    counted = Prefixes()
    counted.stored(b"user:1")
    counted.stored(key)
    assert dumped(counted) == [b"PREFIX user get 0 hit 0 set 1 del 0"]


def test_a_key_that_begins_with_the_delimiter_has_the_empty_prefix() -> None:
    counted = Prefixes()
    counted.deleted(b":x")
    assert dumped(counted) == [b"PREFIX  get 0 hit 0 set 0 del 1"]


def test_another_delimiter_may_be_chosen() -> None:
    counted = Prefixes("/")
    counted.stored(b"a:b/c")
    assert dumped(counted) == [b"PREFIX a:b get 0 hit 0 set 1 del 0"]


def test_dumps_that_go_on_share_their_list_of_prefixes() -> None:
    counted = Prefixes()
    for number in range(20_000):
        counted.stored(b"%d:a" % number)
    tracemalloc.start()
    try:
        dumps = [counted.dump() for _ in range(50)]
        for dump in dumps:
            next(dump)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 20_000 * 8
    counted.clear()
    counted.stored(b"new:a")
    assert b"".join(dumps[0]) == b"END\r\n", "those that were removed meanwhile are left out"
    assert dumped(counted) == [b"PREFIX new get 0 hit 0 set 1 del 0"]


def test_clear_forgets_everything() -> None:
    counted = Prefixes()
    counted.stored(b"a:b")
    counted.clear()
    assert dumped(counted) == []


def test_the_number_of_prefixes_is_bounded_and_those_known_go_on_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "MAX_PREFIXES", 2)
    counted = Prefixes()
    for key in (b"a:1", b"b:1", b"c:1", b"a:2"):
        counted.stored(key)
    assert dumped(counted) == [b"PREFIX a get 0 hit 0 set 2 del 0", b"PREFIX b get 0 hit 0 set 1 del 0"]


def test_a_long_dump_comes_in_pieces_and_a_clear_in_between_is_no_harm() -> None:
    counted = Prefixes()
    for number in range(2 * PREFIXES_AT_ONCE):
        counted.stored(b"%d:" % number)
    pieces = counted.dump()
    assert next(pieces).count(b"PREFIX ") == PREFIXES_AT_ONCE
    counted.clear()
    assert b"".join(pieces) == b"END\r\n"


def test_no_count_of_several_threads_is_lost() -> None:
    counted = Prefixes()

    def work() -> None:
        for _ in range(2000):
            counted.fetched(b"a:b", True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dumped(counted) == [b"PREFIX a get 8000 hit 8000 set 0 del 0"]
