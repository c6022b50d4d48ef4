"""The selector-based poller does for a worker what epoll does."""

import select
import socket
from collections.abc import Callable, Iterator

import pytest

from memcache_kv.server.poller import NOTHING, READABLE, WRITABLE, Poller, SelectorPoller, new_poller

MAKERS: list[Callable[[], Poller]] = [SelectorPoller]
if hasattr(select, "epoll"):
    MAKERS.append(select.epoll)


@pytest.fixture(params=MAKERS)
def poller(request: pytest.FixtureRequest) -> Iterator[Poller]:
    made: Poller = request.param()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


Pair = tuple[socket.socket, socket.socket]


def test_nothing_is_ready_where_nothing_is_watched(poller: Poller) -> None:
    assert poller.poll(0) == []


def test_input_makes_readable_until_it_is_read(poller: Poller, pair: Pair) -> None:
    ours, theirs = pair
    poller.register(ours.fileno(), READABLE)
    assert poller.poll(0) == []
    theirs.send(b"x")
    assert poller.poll(1) == [(ours.fileno(), READABLE)]
    assert poller.poll(1) == [(ours.fileno(), READABLE)]
    ours.recv(10)
    assert poller.poll(0) == []


def test_room_makes_writable(poller: Poller, pair: Pair) -> None:
    ours, theirs = pair
    poller.register(ours.fileno(), READABLE)
    poller.modify(ours.fileno(), WRITABLE)
    assert poller.poll(1) == [(ours.fileno(), WRITABLE)]
    theirs.send(b"x")
    assert poller.poll(1) == [(ours.fileno(), WRITABLE)]
    while select.select([], [ours], [], 0)[1]:
        ours.send(bytes(65536))
    assert poller.poll(0) == []
    while not select.select([], [ours], [], 0)[1]:
        theirs.recv(65536)
    assert poller.poll(1) == [(ours.fileno(), WRITABLE)]


def test_watching_for_nothing_tells_of_no_input_and_no_room(poller: Poller, pair: Pair) -> None:
    ours, theirs = pair
    poller.register(ours.fileno(), READABLE)
    poller.modify(ours.fileno(), NOTHING)
    theirs.send(b"x")
    assert poller.poll(0) == []
    poller.modify(ours.fileno(), NOTHING)
    assert poller.poll(0) == []
    poller.modify(ours.fileno(), READABLE)
    assert poller.poll(1) == [(ours.fileno(), READABLE)]


def test_watching_for_nothing_tells_of_a_hang_up_once_at_most(poller: Poller, pair: Pair) -> None:
    ours, theirs = pair
    poller.register(ours.fileno(), READABLE)
    poller.modify(ours.fileno(), NOTHING)
    theirs.close()
    assert [fd for fd, _ in poller.poll(0)] in ([], [ours.fileno()])
    assert poller.poll(0) == []
    poller.modify(ours.fileno(), READABLE)
    ((fd, ready),) = poller.poll(1)
    assert fd == ours.fileno()
    assert ready & READABLE


@pytest.mark.parametrize("mask", [READABLE, WRITABLE])
def test_a_hang_up_is_ready_for_what_is_watched(poller: Poller, pair: Pair, mask: int) -> None:
    ours, theirs = pair
    poller.register(ours.fileno(), READABLE)
    poller.modify(ours.fileno(), mask)
    theirs.close()
    ((fd, ready),) = poller.poll(1)
    assert fd == ours.fileno()
    assert ready & mask


@pytest.mark.parametrize("mask", [READABLE, WRITABLE, NOTHING])
def test_what_is_watched_no_longer_is_told_of_no_longer(poller: Poller, pair: Pair, mask: int) -> None:
    ours, theirs = pair
    poller.register(ours.fileno(), READABLE)
    poller.modify(ours.fileno(), mask)
    poller.unregister(ours.fileno())
    theirs.send(b"x")
    assert poller.poll(0) == []
    poller.register(ours.fileno(), READABLE)
    assert poller.poll(1) == [(ours.fileno(), READABLE)]


def test_several_are_told_of_at_once(poller: Poller) -> None:
    pairs = [socket.socketpair() for _ in range(5)]
    try:
        for ours, theirs in pairs:
            poller.register(ours.fileno(), READABLE)
            theirs.send(b"x")
        assert sorted(poller.poll(1)) == sorted((ours.fileno(), READABLE) for ours, _ in pairs)
    finally:
        for pair_ in pairs:
            for each in pair_:
                each.close()


def test_the_best_poller_serves_here() -> None:
    poller = new_poller()
    assert poller.poll(0) == []
    poller.close()
