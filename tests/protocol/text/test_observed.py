"""Requests that somebody observes: what is counted, and what happens when there is no time for lines."""

import pytest

from memcache_kv.observe.budget import CREDIT_SECONDS, LINES_SHARE, Budget
from memcache_kv.observe.observers import Observers
from memcache_kv.observe.prefixes import Prefixes
from memcache_kv.observe.watchers import Stream, Watcher
from memcache_kv.protocol import TextProtocol
from memcache_kv.protocol.session import Session
from tests.protocol.context_factory import Surroundings

REQUESTS = (
    b"set user:1 0 0 9\r\nget bad:1\r\nset page:2 0 0 1 noreply\r\nx\r\nget user:1\r\nget user:2\r\n"
    b"get user:1 page:2 q:1\r\nget page:2\r\nset t:1 0 100 1\r\nx\r\nget t:1\r\nget plain\r\nget a b:c\r\n"
    b"mg user:1 v\r\nmg user:1 v Oa:b\r\nms meta:1 2 T30 Oc:d\r\nxx\r\nms meta 2\r\nxx\r\nmg meta v Oe:f\r\n"
    b"get user:1\r\nget :\r\n"
)


class Scene:
    """A text connection whose observers have as much time as the test gives them."""

    def __init__(self, delimiter: str = ":") -> None:
        self.around = Surroundings()
        self.now = self.cpu = 0.0
        context = self.around.context
        before = context.observers
        budget = Budget(lambda: self.now, lambda: self.cpu)
        self.observers = Observers(before.log, Prefixes(delimiter), before.watchers, budget)
        context.observers = self.observers
        self.around.renew_requests()
        self.protocol: Session = TextProtocol(context, 7)

    def watch(self, *streams: Stream) -> Watcher:
        watcher = self.observers.watchers.add(frozenset(streams), lambda: None)
        assert watcher is not None
        return watcher

    def ask(self, data: bytes) -> bytes:
        self.protocol.receive(data)
        while self.protocol.paused:
            self.protocol.resume()
        reply = b"".join(self.protocol.out)
        self.protocol.out.clear()
        return reply

    def use_up(self) -> None:
        """Use up the time for lines."""

        def work() -> bool:
            self.cpu += 2 * CREDIT_SECONDS * LINES_SHARE
            return True

        assert self.observers.observe(work)
        assert not self.observers.takes_lines

    @property
    def counts(self) -> list[bytes]:
        return sorted(b"".join(self.observers.prefixes.dump()).splitlines())


@pytest.mark.parametrize("delimiter", [":", "e", "ü"])
def test_prefixes_are_counted_alike_on_both_ways(delimiter: str) -> None:
    requests = REQUESTS.replace(b":", b":\xc3\xbc")  # `e` is in the commands, too
    fast, general = Scene(delimiter), Scene(delimiter)
    for scene in (fast, general):
        scene.observers.count_prefixes(True)
    general.observers.set_verbosity(2)
    assert fast.ask(requests) == general.ask(requests)
    assert fast.counts == general.counts
    assert len(fast.counts) > 1


def test_prefixes_of_the_batch_before_are_counted_alike_on_both_ways() -> None:
    fast, general = Scene(), Scene()
    for scene in (fast, general):
        scene.observers.count_prefixes(True)
    general.observers.set_verbosity(2)
    for keys in (
        b"a:1 b:2",
        b"a:2 b:1:b:1",
        b"a:1 a:\xff",
        b"aa:1 a:1",
        b"a b:1",
        b"b:2",
        b"c:1 d:1 e:1 f:1 g:1",
        b"a:1",
    ):
        requests = b"".join(b"get %b\r\nset %b 0 0 1\r\nx\r\n" % (key, key) for key in keys.split())
        assert fast.ask(requests) == general.ask(requests)
        assert fast.counts == general.counts
    assert len(fast.counts) == 9


def test_many_prefixes_are_counted_alike_on_both_ways() -> None:
    requests = b"".join(b"get %d:a\r\nset %d:a 0 0 1\r\nx\r\n" % (n % 30, n % 20) for n in range(200))
    fast, general = Scene(), Scene()
    for scene in (fast, general):
        scene.observers.count_prefixes(True)
    general.observers.set_verbosity(2)
    assert fast.ask(requests) == general.ask(requests)
    assert fast.counts == general.counts
    assert len(fast.counts) == 31


def test_with_time_each_lookup_has_its_line_and_without_it_is_counted() -> None:
    scene = Scene()
    watcher = scene.watch(Stream.FETCHERS, Stream.MUTATIONS)
    scene.ask(REQUESTS)
    wanted = len(watcher.take())
    scene.use_up()
    scene.ask(REQUESTS)
    assert watcher.take() == []
    watchers = scene.observers.watchers
    assert (watchers.written, watchers.dropped) == (wanted, wanted)
    scene.now += 1000
    scene.ask(b"get last\r\n")
    (line,) = watcher.take()
    assert line.startswith(b"skipped=%d\nts=" % wanted)
    assert b" key=last " in line


@pytest.mark.parametrize("request_", [b"gets a\r\n", b"delete a\r\n", b"touch a 0\r\n", b"incr a 1\r\n", b"me a\r\n"])
def test_without_time_the_general_way_makes_no_lines_either(request_: bytes) -> None:
    scene = Scene()
    watcher = scene.watch(Stream.FETCHERS)
    scene.use_up()
    scene.ask(request_ * 10)
    assert (watcher.take(), scene.observers.watchers.dropped) == ([], 10)


def test_only_watchers_of_the_stream_are_told_of_dropped_lines() -> None:
    scene = Scene()
    fetchers, mutations = scene.watch(Stream.FETCHERS), scene.watch(Stream.MUTATIONS)
    scene.use_up()
    scene.ask(b"get a\r\n" * 5 + b"set a 0 0 1\r\nx\r\n")
    scene.now += 1000
    late = scene.watch(Stream.FETCHERS)
    scene.ask(b"set a 0 0 1\r\nx\r\n")
    assert b"".join(fetchers.take()).startswith(b"skipped=6\nts=")
    assert b"".join(mutations.take()).startswith(b"skipped=1\nts=")
    assert b"skipped" not in b"".join(late.take())


def test_requests_that_the_verbose_log_misses_are_counted_and_reported() -> None:
    scene = Scene()
    scene.observers.set_verbosity(2)
    scene.use_up()
    scene.ask(b"get a\r\n" * 5 + b"set a 0 0 1\r\nx\r\ngets b\r\n")
    assert scene.around.stream.getvalue() == ""
    scene.now += 1000
    scene.ask(b"get a\r\n")
    skipped, *lines = scene.around.stream.getvalue().splitlines()
    assert skipped == "skipped=7 requests, which came too fast to be logged"
    assert lines == ["<7 get a", ">7 sending key a", ">7 END"]


def test_a_batch_is_cut_off_when_its_time_is_used_up() -> None:
    scene = Scene()
    watcher = scene.watch(Stream.FETCHERS)
    scene.observers.observe(lambda: False)  # begins and ends a turn

    def cost() -> float:
        scene.cpu += CREDIT_SECONDS * LINES_SHARE
        return scene.cpu

    scene.observers = Observers(
        scene.observers.log, watchers=scene.observers.watchers, budget=Budget(lambda: scene.now, cost)
    )
    scene.around.context.observers = scene.observers
    scene.protocol = TextProtocol(scene.around.context, 7)
    scene.ask(b"get a\r\n" * 900)
    assert 0 < len(watcher.take()) < 300
    assert scene.observers.watchers.dropped + scene.observers.watchers.written == 900
