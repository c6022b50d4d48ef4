"""HTTP: its replies, however the input is cut, its limits, and what it shares with the other protocols."""

import pytest

from memcache_kv.config.settings import Settings
from tests.protocol.context_factory import Surroundings, byte_by_byte
from tests.protocol.http.http_talk import CASES, MISSING, HttpCase, HttpTalk, ask

NEXT = HttpCase("the next request", ask("GET", "/next"), MISSING)

each = pytest.mark.parametrize("case", CASES, ids=[case.name[:60] for case in CASES])


@each
def test_a_request_has_its_reply(case: HttpCase) -> None:
    assert HttpTalk().feed(case.request) == case.reply


@each
def test_the_general_path_gives_the_same_replies(case: HttpCase) -> None:
    assert HttpTalk(Surroundings(verbosity=2)).feed(case.request) == case.reply


@each
def test_it_may_be_cut_anywhere(case: HttpCase) -> None:
    step = max(1, len(case.request) // 8)
    for cut in range(0, len(case.request), step):
        assert HttpTalk().feed(case.request[:cut], case.request[cut:]) == case.reply


@each
def test_it_may_come_byte_by_byte(case: HttpCase) -> None:
    assert HttpTalk().feed(*byte_by_byte(case.request)) == case.reply


@each
def test_the_next_request_is_answered(case: HttpCase) -> None:
    assert HttpTalk().feed(case.request + NEXT.request) == case.reply + NEXT.reply


def test_replies_are_the_same_in_turns_of_one_request() -> None:
    for case in CASES:
        assert HttpTalk(settings=Settings(max_reqs_per_event=1)).feed(case.request) == case.reply
