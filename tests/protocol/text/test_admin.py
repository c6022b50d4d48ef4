"""Commands about the server: their answers, and what they change."""

from typing import cast

import pytest

from memcache_kv.clock import Clock
from memcache_kv.config.memcached_options import Unused
from memcache_kv.config.settings import Settings
from memcache_kv.journal.writer import Journal
from memcache_kv.protocol.text.lru_crawler import CLASSES
from tests.protocol.context_factory import Conversation, Surroundings
from tests.protocol.text.admin_cases import CASES, OK


@pytest.mark.parametrize(("line", "reply"), CASES, ids=[line.decode() for line, _ in CASES])
def test_a_line_has_memcacheds_answer(line: bytes, reply: bytes) -> None:
    assert Conversation().feed(line + b"\r\nmn\r\n") == reply + b"MN\r\n"


@pytest.mark.parametrize("line", [b"lru_crawler sleep 5", b"lru mode flat", b"slabs automove 1"])
def test_they_can_be_asked_for_silence(line: bytes) -> None:
    assert Conversation().feed(line + b" noreply\r\n") == b""


# The crawler


def test_sleep_and_tocrawl_reach_the_crawler() -> None:
    conversation = Conversation()
    conversation.feed(b"lru_crawler sleep 1234\r\nlru_crawler tocrawl 99\r\n")
    crawler = conversation.around.context.crawler
    assert (crawler.sleep_us, crawler.tocrawl) == (1234, 99)


def test_a_second_round_is_refused_until_the_first_is_over() -> None:
    conversation = Conversation()
    busy = b"BUSY currently processing crawler request\r\n"
    assert conversation.feed(b"lru_crawler crawl 1\r\nlru_crawler crawl all\r\n") == OK + busy


def test_a_round_for_any_class_is_one_over_all() -> None:
    conversation = Conversation()
    assert conversation.feed(b"lru_crawler crawl 2,3\r\n") == OK
    assert conversation.around.context.crawler.running
    assert CLASSES[-1] == 63


@pytest.mark.parametrize("classes", [b",", b",,"])
def test_a_list_of_no_classes_starts_nothing(classes: bytes) -> None:
    for what in (b"crawl ", b"metadump "):
        reply = Conversation().feed(b"lru_crawler " + what + classes + b"\r\n")
        assert reply == b"NOTSTARTED no items to crawl\r\n"


def test_the_crawler_can_be_stopped_and_started() -> None:
    conversation = Conversation()
    rests = b"CLIENT_ERROR lru crawler disabled\r\n"
    assert conversation.feed(b"lru_crawler disable\r\nlru_crawler crawl x\r\n") == OK + rests
    assert not conversation.around.context.crawler.enabled
    assert conversation.feed(b"lru_crawler enable\r\n") == OK
    assert conversation.around.context.crawler.enabled


# Time


def debugging(disable_flush_all: bool = False) -> Conversation:
    """A conversation with a server for tests of programs."""
    return Conversation(Surroundings(Settings(debug_commands=True, disable_flush_all=disable_flush_all)))


@pytest.mark.parametrize("line", [b"debugtime p", b"debugtime 5", b" debugtime 5", b"debugtime", b"debugtime x"])
def test_debugtime_is_unknown_unless_asked_for(line: bytes) -> None:
    conversation = Conversation()
    clock = conversation.around.context.clock = Pausable()
    assert conversation.feed(line + b"\r\n") == conversation.feed(b"bogus\r\n") == b"ERROR\r\n"
    assert conversation.feed(line + b" noreply\r\n") == conversation.feed(b"bogus noreply\r\n") == b""
    assert clock.told == []


def test_debugtime_can_be_asked_for_silence() -> None:
    assert debugging().feed(b"debugtime 1 noreply\r\n") == b""


def test_no_debugtime_moves_the_clock_so_far_that_keys_cannot_be_looked_for() -> None:
    conversation = debugging()
    conversation.around.context.clock = conversation.around.store.clock = Clock()
    assert conversation.feed(b"debugtime 2147483647\r\ndebugtime 2147483647\r\n") == OK * 2
    assert conversation.feed(b"get a\r\nget b\r\nmg a\r\n") == b"END\r\nEND\r\nEN\r\n"
    requests = b"set a 0 2592000 1\r\nx\r\nget a\r\nset b 0 2147483647 1\r\nx\r\nget b\r\n"
    assert conversation.feed(requests) == b"STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\nSTORED\r\nEND\r\n"


def test_debugtime_moves_the_clock_and_what_falls_due_happens() -> None:
    conversation = debugging()
    started = conversation.around.clock.now
    conversation.feed(b"set a 0 100 1\r\nx\r\nset b 0 0 1\r\nx\r\nflush_all 500\r\n")
    assert conversation.feed(b"debugtime 100\r\nget a b\r\n") == OK + b"VALUE b 0 1\r\nx\r\nEND\r\n"
    assert conversation.around.clock.now == started + 100
    assert conversation.feed(b"debugtime 400\r\n") == OK
    assert len(conversation.around.store) == 0


def test_debugtime_goes_back_no_further_than_to_the_start() -> None:
    conversation = debugging()
    started = conversation.around.clock.now
    conversation.feed(b"debugtime 50\r\ndebugtime -20\r\n")
    assert conversation.around.clock.now == started + 30
    conversation.feed(b"debugtime -2000\r\n")
    assert conversation.around.clock.now == started


@pytest.mark.parametrize("word", [b"", b"x", b"pause", b"1.5", b"99999999999999999999"])
def test_debugtime_with_anything_else_is_an_error(word: bytes) -> None:
    conversation = debugging()
    before = conversation.around.clock.now
    assert conversation.feed(b"debugtime " + word + b"\r\n") == b"ERROR\r\n"
    assert conversation.around.clock.now == before


class Pausable:
    """Notes what a clock was told."""

    def __init__(self) -> None:
        self.now = self.started = 1_700_000_000
        self.wall_ahead = 0
        self.ticked_at = 0.0
        self.told: list[str] = []

    def tick(self) -> bool:
        return False

    def shift(self, seconds: int) -> None:
        self.told.append(f"shift {seconds}")

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")


def test_debugtime_lets_the_clock_stand_and_go_on() -> None:
    conversation = debugging()
    clock = conversation.around.context.clock = Pausable()
    assert conversation.feed(b"debugtime p\r\ndebugtime 3\r\ndebugtime r\r\n") == OK * 3
    assert clock.told == ["pause", "shift 3", "resume"]


@pytest.mark.parametrize("word", [b"p", b"r", b"1", b"x", b""])
def test_debugtime_is_refused_where_it_could_harm(word: bytes) -> None:
    flushless = debugging(disable_flush_all=True)
    journaled = debugging()
    journaled.around.context.journal = cast(Journal, object())
    for conversation in (flushless, journaled):
        before = conversation.around.clock.now
        assert conversation.feed(b"debugtime " + word + b"\r\n") == b"SERVER_ERROR debugtime not allowed\r\n"
        assert conversation.around.clock.now == before


# What settings forbid


def test_flush_all_is_counted_and_refused_where_it_is_disabled() -> None:
    conversation = Conversation(Surroundings(Settings(disable_flush_all=True)))
    conversation.feed(b"set a 0 0 1\r\nx\r\n")
    assert conversation.feed(b"flush_all x\r\n") == b"CLIENT_ERROR flush_all not allowed\r\n"
    assert conversation.around.counters.cmd_flush == 1
    assert len(conversation.around.store) == 1


def test_slabs_reassign_is_refused_where_it_is_disabled() -> None:
    conversation = Conversation(Surroundings(Settings(extended=Unused(slab_reassign=False))))
    assert conversation.feed(b"slabs reassign x 1\r\n") == b"CLIENT_ERROR slab reassignment disabled\r\n"


def test_a_shutdown_says_why_the_connection_closes() -> None:
    conversation = Conversation(Surroundings(Settings(enable_shutdown=True)))
    assert conversation.feed(b"shutdown graceful\r\n") == b""
    assert (conversation.protocol.close_reason, conversation.around.stops) == ("shutdown", 1)


def test_a_shutdown_in_no_known_way_is_refused() -> None:
    conversation = Conversation(Surroundings(Settings(enable_shutdown=True)))
    assert conversation.feed(b"shutdown now\r\n") == b"CLIENT_ERROR invalid shutdown mode\r\n"
    assert conversation.feed(b"shutdown graceful now\r\n") == b"CLIENT_ERROR invalid shutdown mode\r\n"
    assert conversation.around.stops == 0


# Counts per prefix


def test_prefixes_are_counted_while_that_is_wanted() -> None:
    conversation = Conversation()
    conversation.feed(b"get a:1\r\n")
    conversation.feed(b"stats detail on\r\n")
    conversation.feed(b"set a:1 0 0 1\r\nx\r\nget a:1 a:2 b:1 plain\r\ndelete a:1\r\ndelete a:1\r\n")
    conversation.feed(b"stats detail off\r\n")
    conversation.feed(b"get a:1\r\n")
    dump = conversation.feed(b"stats detail dump\r\n")
    assert dump == b"PREFIX a get 2 hit 1 set 1 del 2\r\nPREFIX b get 1 hit 0 set 0 del 0\r\nEND\r\n"
    assert conversation.feed(b"stats reset\r\nstats detail dump\r\n") == b"RESET\r\nEND\r\n"


def test_counting_them_takes_requests_off_the_short_way_and_back() -> None:
    conversation = Conversation()
    observers = conversation.around.context.observers
    conversation.feed(b"stats detail on\r\n")
    assert observers.active
    conversation.feed(b"stats detail off\r\n")
    assert not observers.active
