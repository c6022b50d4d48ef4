"""How long requests take: which requests are counted, until when they are measured, and which turns are chosen."""

import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from memcache_kv.protocol import session
from memcache_kv.server.connection import State
from memcache_kv.stats import latency as latency_module
from memcache_kv.stats.counters import Counters
from memcache_kv.stats.latency import FAMILIES, TURNS_PER_SAMPLE, Latency
from tests.program import poll_until
from tests.server.test_worker import STORED, VERSION, FakeJournal, Serving, ask, read

SET = b"set a 0 0 1\r\nx\r\n"
Start = Callable[..., Serving]


@pytest.fixture(params=["compiled", "interpreted"])
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Workers that measure every turn, in which all of an input is carried out, however slow the machine is."""
    monkeypatch.setattr(latency_module, "TURNS_PER_SAMPLE", 1)
    monkeypatch.setattr(session, "TURN_SECONDS", 1e9)
    made: list[Serving] = []

    def make(journal: FakeJournal | None = None) -> Serving:
        made.append(Serving(journal=journal, is_interpreted=request.param == "interpreted"))
        return made[-1]

    yield make
    for each in made:
        each.close()


def measured(serving: Serving) -> dict[str, int]:
    """How many requests of each family were measured."""
    histograms = serving.around.context.latency.histograms
    return {family: count for family in FAMILIES if (count := sum(histograms[family].counts))}


def finished(serving: Serving) -> dict[str, int]:
    """The same once the worker has stopped, so that nothing is missing."""
    serving.stop()
    return measured(serving)


@pytest.mark.parametrize(
    ("requests", "reply", "expected"),
    [
        (b"get a\r\n", b"END\r\n", {"get": 1}),
        (b"get a b c\r\n", b"END\r\n", {"get": 3}),
        (b"get a\r\nget b\r\n", b"END\r\nEND\r\n", {"get": 2}),
        (SET + b"get a\r\n", STORED + b"VALUE a 0 1\r\nx\r\nEND\r\n", {"set": 1, "get": 1}),
        (b"add a 0 0 1\r\nx\r\n", STORED, {"set": 1}),
        (SET + b"add a 0 0 1\r\nx\r\nget a\r\n", STORED + b"NOT_STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n",
         {"set": 2, "get": 1}),
        (b"delete a\r\n", b"NOT_FOUND\r\n", {"delete": 1}),
        (b"incr a 1\r\ndecr a 1\r\n", b"NOT_FOUND\r\nNOT_FOUND\r\n", {"arithmetic": 2}),
        (b"touch a 1\r\n", b"NOT_FOUND\r\n", {"touch": 1}),
        (b"version\r\n", VERSION, {"other": 1}),
        (b"set a 0 0 1 noreply\r\nx\r\nmn\r\n", b"MN\r\n", {"set": 1}),
        (b"mg a v\r\nmd a\r\n", b"EN\r\nNF\r\n", {"get": 1, "delete": 1}),
    ],
)  # fmt: skip
def test_the_requests_of_an_input_are_counted(
    start: Start, requests: bytes, reply: bytes, expected: dict[str, int]
) -> None:
    serving = start()
    ask(serving.connect(), requests, reply)
    assert finished(serving) == expected


def test_connections_of_one_turn_are_counted_each(start: Start) -> None:
    serving = start()
    clients = [serving.connect() for _ in range(40)]
    for client in clients:
        client.sendall(b"get a\r\n" + SET)
    for client in clients:
        read(client, len(STORED))
    counted = finished(serving)
    assert counted["set"] == 40
    assert counted["get"] == 40


def test_a_write_is_measured_until_the_journal_has_it(start: Start) -> None:
    journal = FakeJournal()
    serving = start(journal)
    client = serving.connect()
    client.sendall(SET)
    poll_until(serving.is_awaiting_journal, "the write waits")
    assert measured(serving) == {}
    journal.reach(1)
    assert read(client, len(STORED)) == STORED
    assert finished(serving) == {"set": 1}
    assert not serving.around.context.latency.waiting


def test_nothing_is_kept_of_a_connection_that_is_closed_while_it_waits(start: Start) -> None:
    serving = start(FakeJournal())
    client = serving.connect()
    client.sendall(SET)
    poll_until(serving.is_awaiting_journal, "the write waits")
    serving.stop()
    assert State.WAITING_FOR_JOURNAL not in serving.states()
    assert not serving.around.context.latency.waiting


def test_measured_turns_are_counted(start: Start) -> None:
    serving = start()
    client = serving.connect()
    for _ in range(5):
        ask(client, b"version\r\n", VERSION)
    serving.stop()
    assert sum(serving.around.context.latency.turn_seconds.counts) >= 5


# Which turns


def chosen(turns: int, seed: int) -> set[int]:
    """The numbers of the turns that are measured."""
    latency = Latency(Counters(), seed)
    steps = itertools.accumulate(iter(latency.turns_to_next, None))
    return set(itertools.takewhile(lambda turn: turn < turns, steps))


@pytest.mark.parametrize("seed", range(3))
def test_one_of_so_many_turns_is_measured(seed: int) -> None:
    turns = 100_000
    assert len(chosen(turns, seed)) == pytest.approx(turns / TURNS_PER_SAMPLE, rel=0.1)


@pytest.mark.parametrize("period", [2, 16, TURNS_PER_SAMPLE])
def test_requests_that_come_in_turn_are_measured_alike(period: int) -> None:
    counts = [0] * period
    for turn in chosen(1_000_000, 1):
        counts[turn % period] += 1
    assert min(counts) > 0.6 * sum(counts) / period


# Without a worker


def test_a_reset_forgets_what_was_measured() -> None:
    latency = Latency(Counters())
    latency.observe(0.001, [1, 0, 0, 0, 0, 0])
    latency.reset()
    assert not any(sum(histogram.counts) for histogram in latency.histograms.values())


def test_the_time_counts_from_the_begin_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    counters, now = Counters(), SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(latency_module, "monotonic", lambda: now.seconds)
    latency = Latency(counters)
    latency.begin()
    counters.count_gets(1, 2)
    now.seconds += 0.02
    latency.end("a connection", is_sent=False)
    now.seconds += 0.03
    latency.sent("a connection")
    latency.sent("a connection")
    histogram = latency.histograms["get"]
    assert histogram.sum == pytest.approx(3 * 0.05)
    assert sum(histogram.counts) == 3
