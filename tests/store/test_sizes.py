"""memcached's size classes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcache_kv.config.memcached_options import Unused
from memcache_kv.config.settings import Settings
from memcache_kv.store.entry import pack
from memcache_kv.store.sizes import DEFAULT_SIZES, ClassCounts, SizeClasses, size_classes

# What memcached 1.6.45 prints with -vv, for some flags.
DEFAULTS = (
    96, 120, 152, 192, 240, 304, 384, 480, 600, 752, 944, 1184, 1480, 1856, 2320, 2904, 3632, 4544, 5680, 7104, 8880,
    11104, 13880, 17352, 21696, 27120, 33904, 42384, 52984, 66232, 82792, 103496, 129376, 161720, 202152, 252696,
    315872, 394840, 524288,
)  # fmt: skip


def test_the_sizes_are_memcacheds() -> None:
    assert DEFAULT_SIZES.chunks == DEFAULTS


def test_a_class_holds_all_that_fits_into_its_chunks_and_not_into_smaller_ones() -> None:
    for number, chunk in enumerate(DEFAULTS, 1):
        assert DEFAULT_SIZES.class_of(chunk) == number
        assert DEFAULT_SIZES.class_of(chunk + 1) == min(number + 1, len(DEFAULTS))


def test_what_is_larger_than_any_chunk_is_in_the_last_class_and_takes_several() -> None:
    assert DEFAULT_SIZES.class_of(1 << 30) == 39
    assert [DEFAULT_SIZES.chunks_of(size) for size in (1, 1 << 19, (1 << 19) + 1, 1 << 20)] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("key", "value", "flags", "has_cas", "size"),
    [
        (b"k", b"", 0, True, 60),
        (b"key", b"value", 0, True, 67),
        (b"key", b"value", 1, True, 71),
        (b"key", b"value", 10, True, 71),
        (b"key", b"a\nb", 0, False, 57),
    ],
)
def test_an_item_is_as_large_as_there(key: bytes, value: bytes, flags: int, has_cas: bool, size: int) -> None:
    assert SizeClasses(has_cas=has_cas).item_bytes(key, pack(flags, value)) == size


def test_sizes_that_are_given_are_rounded_up_and_the_largest_stays() -> None:
    classes = SizeClasses(given="100-200-301")
    assert classes.chunks == (104, 200, 304, 1 << 19)
    assert [classes.class_of(size) for size in (1, 104, 105, 304, 305)] == [1, 1, 2, 3, 4]


def test_the_settings_reach_the_classes() -> None:
    extended = Unused(slab_chunk_max=16384)
    classes = size_classes(Settings(slab_growth_factor=2.0, slab_min_size=80, disable_cas=True, extended=extended))
    assert classes.chunks == (128, 256, 512, 1024, 2048, 4096, 16384)
    assert classes.item_bytes(b"k", pack(0, b"")) == 52
    assert size_classes(Settings(extended=Unused(slab_sizes="96-200"))).chunks == (96, 200, 1 << 19)


@given(
    st.floats(1.0001, 10), st.integers(1, 1 << 21), st.sampled_from([1 << 10, 1 << 14, 1 << 19, 1 << 20]),
    st.integers(1, 1 << 21),
)  # fmt: skip
def test_with_any_flags_the_classes_are_in_order_and_not_too_many(
    factor: float, smallest: int, chunk_max: int, size: int
) -> None:
    classes = SizeClasses(factor, smallest, chunk_max)
    assert list(classes.chunks) == sorted(classes.chunks)
    assert len(classes.chunks) <= 63
    number = classes.class_of(size)
    assert number == len(classes.chunks) or classes.chunks[number - 1] >= size
    assert number == 1 or classes.chunks[number - 2] < size


def test_counts_of_several_shards_are_added_but_for_the_idle_time() -> None:
    counts = ClassCounts(evictions=1, reclaimed=2, evicted_idle_seconds=9)
    counts.add(ClassCounts(evictions=10, crawled=3, evicted_idle_seconds=5))
    assert counts == ClassCounts(evictions=11, reclaimed=2, crawled=3, evicted_idle_seconds=9)
