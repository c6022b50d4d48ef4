"""Whatever bytes come by HTTP: nothing is raised, little is held, and the connection still serves or is closing.

FUZZ_SECONDS makes the run longer, as for the text protocol.
"""

from random import Random

import pytest

from memcache_kv.protocol.http.framing import BODY_ITEMS, HEAD_LIMIT_BYTES, SPARE_BODY_BYTES
from memcache_kv.protocol.session import LARGEST_READ_BYTES
from tests.fuzz import mutator
from tests.fuzz.test_fuzz import CONVERSATIONS, SECONDS, seeds
from tests.fuzz.victim import ITEM_LIMIT_BYTES, surroundings
from tests.protocol.credentials import AtOnce, OneUser
from tests.protocol.http.http_talk import CASES, MISSING, HttpTalk, ask

pytestmark = pytest.mark.timeout(max(120, 3 * SECONDS))

REQUESTS = [case.request for case in CASES if len(case.request) < 5000]
HELD_BYTES = BODY_ITEMS * ITEM_LIMIT_BYTES + SPARE_BODY_BYTES + HEAD_LIMIT_BYTES + LARGEST_READ_BYTES
TOKEN = b"Host: localhost\r\nAuthorization: Bearer user:pass\r\n"


def one_seed(seed: int, guarded: bool) -> None:
    """Send the streams of one seed to one server."""
    source, around = Random(seed), surroundings()
    requests = [each.replace(b"Host: localhost:8080\r\n", TOKEN) for each in REQUESTS] if guarded else REQUESTS
    for _ in range(CONVERSATIONS):
        pieces = mutator.pieces(source, mutator.stream(source, requests))
        talk = HttpTalk(around, AtOnce(OneUser()) if guarded else None)
        for piece in pieces:
            was_closing = talk.protocol.closing
            reply = talk.feed(piece)
            assert not (was_closing and reply), f"seed {seed}: a reply after the end"
            assert talk.protocol.held_bytes <= HELD_BYTES, f"seed {seed}: too much is held"
            assert 0 < talk.protocol.want <= LARGEST_READ_BYTES
        if not (talk.protocol.closing or talk.protocol.is_amid_request or guarded):
            assert talk.feed(ask("GET", "/mark")) == MISSING, f"seed {seed}: {pieces!r}"
        around.clock.advance(source.choice((0, 1, 100)))
        around.store.new_second()


@pytest.mark.parametrize("guarded", [False, True])
def test_damaged_requests_leave_a_server_that_serves(guarded: bool) -> None:
    for seed in seeds():
        one_seed(seed, guarded)
