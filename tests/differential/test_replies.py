"""memcached and we answer every stream of requests alike, byte for byte.

What is not compared is listed in tests/reference/differences.toml. Time moves only where memcached was built with its
`debugtime` command; releases before 1.6.45 get the requests that `known_differences` leaves them. To run 20,000
streams of each kind:

    MEMCACHED=path/to/memcached-debug DIFFERENTIAL_STREAMS=20000 python -m pytest --timeout 0 tests/differential
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.differential.peers import Inside, Outside, Peer, transcript
from tests.differential.streams import Move, Stream, described, kinds, streams

STREAMS = int(os.environ.get("DIFFERENTIAL_STREAMS", "300"))
SOCKET_STREAMS = max(1, STREAMS // 10)
STREAMS_PER_SLIP = 5000
"""One difference in so many streams (and one in fewer) may be gone when its stream is sent again, and is printed: a
second may begin between the two sides' turns, and memcached's maintenance may hold an item just then, so that a number
that is shortened in it loses its spaces."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(max(120, STREAMS))]


def compared(memcached: Outside, ours: Peer, stream: Stream) -> str:
    """What differs in the replies, in words; nothing where they are the same."""
    theirs = transcript(memcached, stream)
    if isinstance(ours, Inside):
        ours.size_limit = memcached.size_limit
        ours.now = memcached.now - sum(step.seconds for step in stream if isinstance(step, Move))
    own = transcript(ours, stream)
    if theirs == own:
        return ""
    pairs = list(zip(theirs, own, strict=False))
    place = next((place for place, (one, other) in enumerate(pairs) if one != other), None)
    if place is None:
        return f"{described(stream)}\nmemcached answered {len(theirs)} batches, ours {len(own)}"
    return f"{described(stream)}\nbatch {place}\nmemcached: {theirs[place]!r}\nours:      {own[place]!r}"


def run(memcached: Outside, ours: Peer, kind: str, examples: int, timed: bool) -> None:
    """Compare this many streams of a kind."""
    slips: list[str] = []

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    @given(streams(kinds(memcached.is_old)[kind], timed))
    def compare(stream: Stream) -> None:
        difference = compared(memcached, ours, stream)
        if difference:
            assert not compared(memcached, ours, stream), f"\n{difference}"
            slips.append(difference)

    compare()
    print(*slips, sep="\n")
    assert len(slips) <= 1 + examples // STREAMS_PER_SLIP, slips


@pytest.mark.parametrize("kind", ["classic", "meta"])
def test_the_protocol_answers_as_memcached_does(memcached: Outside, inside: Inside, kind: str) -> None:
    run(memcached, inside, kind, STREAMS, timed=memcached.can_move)


@pytest.mark.parametrize("kind", ["classic", "meta"])
def test_without_ids_the_protocol_answers_as_memcached_does(memcached_without_ids: Outside, kind: str) -> None:
    peer = memcached_without_ids
    if peer.is_old:
        pytest.skip("compared with the release that ours follows")
    run(peer, Inside(gives_cas=False), kind, max(1, STREAMS // 3), timed=peer.can_move)


@pytest.mark.parametrize("kind", ["classic", "meta"])
def test_the_server_answers_as_memcached_does(memcached: Outside, server: Outside, kind: str) -> None:
    with memcached.with_running_clock():
        run(memcached, server, kind, SOCKET_STREAMS, timed=False)
