"""A conversation in which the server is asked something else than the client has, or not at all."""

import pytest

from memcache_kv.traffic.conversation import Conversation

NOOP = b"\x80\x0a" + bytes(10) + b"\0\0\0\7" + bytes(8)
NOOP_REPLY = b"\x81" + NOOP[1:]


def test_the_reply_to_what_stands_in_is_that_of_the_stand_in() -> None:
    talk = Conversation()
    first, second, third = talk.asked(b"get a\r\nset b 0 0 1\r\nx\r\nget c\r\n")
    instead = talk.replace(second, b"version\r\n")
    assert instead.command == "version"
    calls = talk.answered(b"END\r\nVERSION 1.6.45\r\nEND\r\n")
    assert [call.request for call in calls] == [first, instead, third]
    assert [call.reply for call in calls] == [b"END\r\n", b"VERSION 1.6.45\r\n", b"END\r\n"]
    assert talk.is_known


def test_a_stand_in_is_of_the_protocol_of_the_connection() -> None:
    talk = Conversation()
    (request,) = talk.asked(b"\x80\x00" + bytes([0, 1]) + bytes(4) + b"\0\0\0\1" + bytes(12) + b"a")
    instead = talk.replace(request, NOOP)
    assert [(call.request, call.reply) for call in talk.answered(NOOP_REPLY)] == [(instead, NOOP_REPLY)]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_no_reply_is_expected_to_what_the_server_does_not_get(place: int) -> None:
    talk = Conversation()
    requests = talk.asked(b"get a\r\nget b\r\nget c\r\n")
    talk.withdraw(requests.pop(place))
    assert [call.request for call in talk.answered(b"END\r\nEND\r\n")] == requests
    assert talk.is_known
