"""A conversation keeps in step with a server, whatever requests are generated: valid, damaged and cut short."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memcache_kv.traffic.conversation import Conversation
from tests.differential.peers import Inside, resolved
from tests.differential.streams import Move, Stream, kinds, streams

FENCE, ANSWER = b"version\r\n", b"VERSION 1.6.45\r\n"
STREAMS = st.one_of(*(streams(kind, timed=False) for kind in kinds(is_old=False).values()))


@pytest.mark.long
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(STREAMS)
def test_each_request_of_a_stream_gets_its_reply(stream: Stream) -> None:
    peer, conversation = Inside(), Conversation()
    for step in stream:
        if isinstance(step, Move):
            continue
        data = resolved(step.sent, [], peer.now)
        reply = peer.ask([data], step.filling)
        requests = conversation.asked(data + step.filling)
        if not conversation.is_known or any(one.command == "?" and not one.has_reply for one in requests):
            return  # no text, or an unknown command with noreply, which only some servers answer
        calls = conversation.answered(reply)
        conversation.asked(FENCE)
        calls += conversation.answered(ANSWER)
        if reply.endswith((b"<closed>", b"<silent>")):
            return
        assert [call.request for call in calls[:-1]] == requests
        assert b"".join(call.reply for call in calls[:-1]) == reply
        assert (calls[-1].request.data, calls[-1].reply) == (FENCE, ANSWER)
        assert conversation.is_known
