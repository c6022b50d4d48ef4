"""The page for Prometheus, made without a server."""

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from memcache_kv.config.settings import Settings
from memcache_kv.stats import census
from memcache_kv.stats import metrics as metrics_module
from memcache_kv.stats.exposition import SAMPLES_AT_ONCE
from memcache_kv.stats.metrics import ALL_METRICS, metrics_page
from memcache_kv.stats.own_metrics import PREFIXES_SHOWN
from memcache_kv.store.entry import make_entry, pack
from tests.protocol.context_factory import Conversation, Surroundings


@pytest.fixture
def around() -> Surroundings:
    return Surroundings()


def page(around: Surroundings, *obstacles: str) -> str:
    return b"".join(metrics_page(around.context, obstacles)).decode()


def values(text: str) -> dict[str, float]:
    """The value of each series."""
    return {
        sample.name + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_names_are_unique_and_described() -> None:
    names = [metric.name for metric in ALL_METRICS]
    assert len(names) == len(set(names))
    assert all(metric.meaning.endswith(".") for metric in ALL_METRICS)


def test_while_the_items_are_loaded_the_server_is_not_up() -> None:
    text = b"".join(metrics_page(None, ["loading"])).decode()
    assert values(text) == {"memcache_kv_ready": 0, "memcache_kv_not_ready reason=loading": 1, "memcached_up": 0}


def test_the_reasons_for_not_being_ready_are_shown(around: Surroundings) -> None:
    assert values(page(around))["memcache_kv_ready"] == 1
    found = values(page(around, "journal", "draining"))
    assert found["memcache_kv_ready"] == 0
    assert found["memcache_kv_not_ready reason=journal"] == found["memcache_kv_not_ready reason=draining"] == 1


def test_cas_is_not_counted_among_the_sets(around: Surroundings) -> None:
    Conversation(around).feed(b"set a 0 0 1\r\nx\r\ncas a 0 0 1 99\r\ny\r\ncas b 0 0 1 9\r\ny\r\n")
    found = values(page(around))
    assert found["memcached_commands_total command=set status=hit"] == 1
    assert found["memcached_commands_total command=cas status=badval"] == 1
    assert found["memcached_commands_total command=cas status=miss"] == 1


def test_the_crawler_has_metrics_only_while_it_is_enabled() -> None:
    with_crawler, without = Surroundings(Settings()), Surroundings(Settings())
    without.context.crawler.enabled = False
    assert "memcached_lru_crawler_sleep" in page(with_crawler)
    assert "memcached_lru_crawler_sleep" not in page(without)


def test_only_some_prefixes_are_shown_and_always_the_same(around: Surroundings) -> None:
    talk = Conversation(around)
    talk.feed(b"stats detail on\r\n")
    for number in range(2 * PREFIXES_SHOWN):
        talk.feed(b"get %d:key\r\n" % number)
    for _ in range(10):
        talk.feed(b"get last:key\r\n")
    found = values(page(around))
    shown = [name for name in found if name.startswith("memcache_kv_prefix_gets_total")]
    assert len(shown) == PREFIXES_SHOWN
    assert "memcache_kv_prefix_gets_total prefix=0" in shown
    assert found["memcache_kv_prefixes"] == 2 * PREFIXES_SHOWN + 1


def test_a_prefix_of_any_bytes_is_shown(around: Surroundings) -> None:
    around.context.observers.prefixes.counting = True
    around.context.observers.prefixes.stored(b'\xff"\\:key')
    assert values(page(around))['memcache_kv_prefix_sets_total prefix=\\xff"\\'] == 1


def many_classes() -> Surroundings:
    around = Surroundings(Settings(memory_limit=1 << 30), shards=64)
    for number in range(4_000):
        value = bytes(int(1.003**number))
        around.store.put(b"%d" % number, make_entry(b"%d" % number, pack(0, value), 0))
    return around


def test_a_page_is_made_in_pieces_that_are_never_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a step is a part of the clock's: here each reading of it takes a step's whole time."""
    readings = iter(range(1_000_000))
    monkeypatch.setattr(metrics_module, "monotonic", lambda: float(next(readings)))
    pieces = list(metrics_page(many_classes().context))
    assert max(piece.count(b"\n") for piece in pieces) <= max(SAMPLES_AT_ONCE + 2, 6 * 23)
    assert pieces.count(b"") > 64 + 36, "after each shard, and after each class"


# Counting items by size


def test_a_count_that_takes_long_goes_on_at_the_next_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "COUNTED_AT_ONCE", 100)
    monkeypatch.setattr(census, "SMALL_STORE_ITEMS", 0)
    monkeypatch.setattr(metrics_module, "COUNTING_SECONDS", 0.0)
    monkeypatch.setattr(census, "monotonic", ticking())
    around = Surroundings(shards=1)
    for number in range(1_000):
        around.store.put(b"%d" % number, pack(0, b"x"))
    pages = [values(page(around)).get("memcached_slab_current_items slab=1") for _ in range(20)]
    first = pages.index(1_000)
    assert first > 5, "the first pages have no counts yet"
    assert pages[:first] == [None] * first
    assert pages[first:] == [1_000] * (20 - first)


def test_a_count_of_somebody_else_that_is_given_up_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "COUNTED_AT_ONCE", 100)
    monkeypatch.setattr(census, "SMALL_STORE_ITEMS", 0)
    monkeypatch.setattr(census, "monotonic", ticking())
    around = Surroundings(shards=1)
    for number in range(1_000):
        around.store.put(b"%d" % number, pack(0, b"x"))
    steps = 0
    while not next(reversed(list(around.context.census.count_within(0.0)))).classes:  # type: ignore[union-attr]
        other = around.context.census.count()
        next(other)
        other.close()
        steps += 1
    assert steps < 10


def ticking() -> "Ticking":
    return Ticking(iter(range(1_000_000)))


class Ticking:
    """A clock that is a thousandth of a second later at each reading."""

    def __init__(self, readings: Iterator[int]) -> None:
        self._readings = readings

    def __call__(self) -> float:
        return next(self._readings) / 1000
