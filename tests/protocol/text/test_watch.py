"""What `watch` accepts and refuses, and which lines the commands cause for those who watch."""

import re

import pytest

from memcache_kv.config.settings import Settings
from memcache_kv.observe.watchers import WATCHERS_LIMIT, Stream, Watcher
from tests.protocol.context_factory import Conversation, Surroundings

TOO_MANY = b"WATCHER_TOO_MANY log watcher limit reached\r\n"
NOT_ALLOWED = b"CLIENT_ERROR watch commands not allowed\r\n"
PIPELINED = b"ERROR cannot pipeline other commands before watch\r\n"


def surroundings(settings: Settings | None = None) -> Surroundings:
    """A server's parts, for connections that some thread serves."""
    around = Surroundings(settings)
    around.context.resume_later = lambda fd: None
    return around


def streams_of(request: bytes) -> frozenset[Stream] | None:
    """What one watches who asks like this; None where the answer is ERROR."""
    talk = Conversation(surroundings())
    reply = talk.feed(request)
    watcher = talk.protocol.watcher
    assert reply == (b"ERROR\r\n" if watcher is None else b"OK\r\n")
    return None if watcher is None else watcher.streams


@pytest.mark.parametrize("stream", Stream)
def test_every_stream_has_its_name(stream: Stream) -> None:
    assert streams_of(b"watch " + stream.value.encode() + b"\r\n") == frozenset({stream})


@pytest.mark.parametrize(
    ("request_", "streams"),
    [
        (b"watch\r\n", {Stream.FETCHERS}),
        (b"watch fetchers mutations\r\n", {Stream.FETCHERS, Stream.MUTATIONS}),
        (b"watch  fetchers  fetchers \r\n", {Stream.FETCHERS}),
        (b"watch e\r\n", {Stream.EVICTIONS}),
        (b"watch p f m\r\n", {Stream.PROXYREQS, Stream.FETCHERS, Stream.MUTATIONS}),
        (b"watch proxyu\r\n", {Stream.PROXYUSER}),
    ],
)
def test_streams_may_be_joined_and_cut_short(request_: bytes, streams: set[Stream]) -> None:
    assert streams_of(request_) == frozenset(streams)


@pytest.mark.parametrize(
    "request_",
    [
        b"watch foo\r\n",
        b"watch fetchers foo\r\n",
        b"watch FETCHERS\r\n",
        b"watch fetchersx\r\n",
        b"watch noreply\r\n",
        b"watch e noreply\r\n",
        b" watch e\r\n",
        b"watchx\r\n",
    ],
)
def test_what_is_no_stream_is_refused(request_: bytes) -> None:
    assert streams_of(request_) is None


def test_who_was_refused_may_go_on() -> None:
    around = surroundings()
    assert Conversation(around).feed(b"watch foo\r\nmn\r\n") == b"ERROR\r\nMN\r\n"
    assert around.context.observers.watchers.count == 0


def test_watching_may_be_forbidden() -> None:
    around = surroundings(Settings(disable_watch=True))
    assert Conversation(around).feed(b"watch foo\r\n") == NOT_ALLOWED


def test_a_datagram_cannot_watch() -> None:
    around = Surroundings()
    assert Conversation(around).feed(b"watch\r\n") == NOT_ALLOWED
    assert around.context.observers.watchers.count == 0


def test_no_reply_may_be_under_way_before_the_watch() -> None:
    talk = Conversation(surroundings())
    assert talk.feed(b"mn\r\nwatch\r\nmn\r\n") == b"MN\r\n" + PIPELINED + b"MN\r\n"
    assert talk.feed(b"watch\r\n") == b"OK\r\n"


def test_one_too_many_is_told_so_and_may_go_on() -> None:
    around = surroundings()
    for _ in range(WATCHERS_LIMIT):
        assert Conversation(around).feed(b"watch\r\n") == b"OK\r\n"
    assert Conversation(around).feed(b"watch\r\nmn\r\n") == TOO_MANY + b"MN\r\n"


def test_all_that_follows_is_passed_over_and_not_kept() -> None:
    around = surroundings()
    talk = Conversation(around)
    assert talk.feed(b"watch\r\nset a 0 0 1\r\nx\r\n") == b"OK\r\n"
    assert talk.feed(b"get a\r\nquit\r\n" + b"x" * 100_000) == b""
    assert not talk.protocol.closing
    assert talk.held_bytes == len(around.store) == 0


# Lines that commands cause


class Watched:
    """A connection of number 30, and somebody who watches what its requests do."""

    def __init__(self, streams: str = "fetchers mutations deletions") -> None:
        self.around = surroundings()
        watching = Conversation(self.around, fd=31)
        assert watching.feed(b"watch " + streams.encode() + b"\r\n") == b"OK\r\n"
        assert watching.protocol.watcher is not None
        self.watcher: Watcher = watching.protocol.watcher
        self.talk = Conversation(self.around, fd=30)

    def lines(self, request: bytes) -> list[str]:
        """What is told of a request, from `type=` on."""
        self.talk.feed(request)
        text = b"".join(self.watcher.take()).decode()
        assert re.fullmatch(r"(ts=\d+\.\d{6} gid=\d+ type=[^\n]*\n)*", text)
        return [line.partition(" type=")[2] for line in text.splitlines()]


def looked_up(key: str, size: int | None = None, status: str = "") -> str:
    if size is None:
        return f"item_get key={key} status={status or 'not_found'} clsid=0 cfd=30 size=0"
    return f"item_get key={key} status=found clsid=1 cfd=30 size={size}"


def stored(key: str, cmd: str, size: int, ttl: int = 0, status: str = "stored") -> str:
    return f"item_store key={key} status={status} cmd={cmd} ttl={ttl} clsid=1 cfd=30 size={size}"


def test_a_get_tells_of_each_key() -> None:
    watched = Watched()
    watched.lines(b"set a 0 0 3\r\nxyz\r\n")
    for command in (b"get", b"gets", b"gat 0", b"gats 0"):
        assert watched.lines(command + b" a b\r\n") == [looked_up("a", 3), looked_up("b")], command


@pytest.mark.parametrize(
    ("request_", "lines"),
    [
        (b"set a 0 100 1\r\nx\r\n", [looked_up("a", 3), stored("a", "set", 1, 100)]),
        (b"set b 0 0 1\r\nx\r\n", [looked_up("b"), stored("b", "set", 1)]),
        (b"add a 0 7 2\r\nyy\r\n", [looked_up("a", 3), stored("a", "add", 2, 7, "not_stored")]),
        (b"add b 0 7 2\r\nyy\r\n", [looked_up("b"), stored("b", "add", 2, 7)]),
        (b"replace b 0 7 2\r\nyy\r\n", [looked_up("b"), stored("b", "replace", 2, 7, "not_stored")]),
        (b"append a 0 7 2\r\nyy\r\n", [looked_up("a", 3), stored("a", "append", 5, 50)]),
        (b"prepend b 0 7 2\r\nyy\r\n", [looked_up("b"), stored("b", "prepend", 2, 7, "not_stored")]),
        (b"cas a 0 7 2 987\r\nyy\r\n", [looked_up("a", 3), stored("a", "cas", 2, 7, "exists")]),
        (b"cas b 0 7 2 987\r\nyy\r\n", [looked_up("b"), stored("b", "cas", 2, 7, "not_found")]),
        (b"touch a 9\r\n", [looked_up("a", 3)]),
        (b"touch b 9\r\n", [looked_up("b")]),
        (b"incr a 1\r\n", [looked_up("a", 3)]),
        (b"decr b 1\r\n", [looked_up("b")]),
        (b"delete a\r\n", [looked_up("a", 3), "deleted key=a cmd=delete clsid=1 size=3"]),
        (b"delete b\r\n", [looked_up("b")]),
        (b"mg a v\r\n", [looked_up("a", 3)]),
        (b"mg a T30 v\r\n", [looked_up("a", 3)]),
        (b"mg b v\r\n", [looked_up("b")]),
        (b"mg b N30 v\r\n", [looked_up("b")]),
        (b"ms a 2 T30\r\nxx\r\n", [looked_up("a", 3), stored("a", "set", 2, 30)]),
        (b"ms b 2 MA N20\r\nxx\r\n", [looked_up("b"), stored("b", "append", 2, 20)]),
        (b"ms a 2 ME\r\nxx\r\n", [looked_up("a", 3), stored("a", "add", 2, 0, "not_stored")]),
        (b"ma a\r\n", [looked_up("a", 3)]),
        (b"ma b\r\n", [looked_up("b")]),
        (b"md a\r\n", [looked_up("a", 3), "deleted key=a cmd=md clsid=1 size=3"]),
        (b"md a I\r\n", [looked_up("a", 3)]),
        (b"md b\r\n", [looked_up("b")]),
        (b"me a\r\n", [looked_up("a", 3)]),
        (b"ms 8J+YgA== 1 b\r\nx\r\n", [looked_up("%F0%9F%98%80"), stored("%F0%9F%98%80", "set", 1)]),
        (b"version\r\nmn\r\nverbosity 0\r\n", []),
        (b"set a 0 0 1\r\nxyz\r\n", []),
    ],
)
def test_a_command_causes_the_lines_that_it_causes_in_memcached(request_: bytes, lines: list[str]) -> None:
    watched = Watched()
    watched.lines(b"set a 0 50 3\r\nxyz\r\n")
    assert watched.lines(request_) == lines


@pytest.mark.parametrize("request_", [b"set a 0 0 2000000\r\n", b"ms a 2000000\r\n"])
def test_a_value_that_is_too_large_is_told_with_the_value_that_goes(request_: bytes) -> None:
    watched = Watched()
    watched.lines(b"set a 0 50 3\r\nxyz\r\n")
    refused = "item_store key=a status=too_large cmd=set ttl=0 clsid=0 cfd=30 size=0"
    assert watched.lines(request_) == [refused, looked_up("a", 3)]


def test_an_expired_item_is_told_as_such_and_then_as_missing() -> None:
    watched = Watched()
    watched.lines(b"set a 0 5 3\r\nxyz\r\n")
    watched.around.clock.advance(6)
    assert watched.lines(b"get a\r\n") == [looked_up("a", status="expired")]
    assert watched.lines(b"get a\r\n") == [looked_up("a")]


def test_a_flush_is_told_with_the_first_look_up() -> None:
    watched = Watched()
    watched.lines(b"set a 0 0 3\r\nxyz\r\nflush_all\r\n")
    assert watched.lines(b"get a\r\n") == [looked_up("a", status="flushed")]
    assert watched.lines(b"get a\r\n") == [looked_up("a")]


def test_counting_that_makes_an_item_tells_of_it() -> None:
    lines = [looked_up("c"), looked_up("c"), stored("c", "add", 2, 90)]
    assert Watched().lines(b"ma c N90 J15\r\n") == lines


def test_one_gets_only_what_it_watches() -> None:
    request = b"set a 0 0 1\r\nx\r\nget a\r\ndelete a\r\n"
    assert Watched("mutations").lines(request) == [stored("a", "set", 1)]
    assert Watched("deletions").lines(request) == ["deleted key=a cmd=delete clsid=1 size=1"]
    assert Watched("connevents rawcmds sysevents").lines(request) == []


def test_the_hot_path_has_its_short_ways_back_when_the_last_one_leaves() -> None:
    watched = Watched()
    observers = watched.around.context.observers
    assert observers.active
    observers.watchers.remove(watched.watcher)
    assert not observers.active
    assert watched.lines(b"set a 0 0 1\r\nx\r\nget a\r\n") == []
