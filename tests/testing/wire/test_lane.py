"""What waits is sent in order, and when it is due."""

import math
import socket
from collections.abc import Iterator

import pytest

from memcache_kv.testing.wire.lane import LANE_LIMIT_BYTES, Lane, Piece, moment
from memcache_kv.testing.wire.passage import Direction, Ending, Pace, Passage


class Held:
    """A rule that is in force until a test ends it."""

    direction = Direction.DOWNSTREAM
    is_over = False

    def meet(self, passage: Passage) -> None:
        """Do nothing."""


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection, which never wait."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    yield ends
    for end in ends:
        end.close()


def heard(sock: socket.socket) -> bytes:
    """Return what has come so far."""
    try:
        return sock.recv(1 << 20)
    except BlockingIOError:
        return b""


def test_what_is_not_held_back_is_sent_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    lane = Lane()
    lane.put(Piece(b"ab"))
    lane.put(Piece(b"cd", Ending.CLOSE))
    assert lane.bytes == 4
    assert lane.send_to(pair[0], moment()) is Ending.CLOSE
    assert (heard(pair[1]), lane.bytes, bool(lane), lane.due_at) == (b"abcd", 0, False, math.inf)


def test_what_is_delayed_holds_up_what_is_behind_it(pair: tuple[socket.socket, socket.socket]) -> None:
    lane, rule = Lane(), Held()
    lane.put(Piece(b"late", delays=[(rule, 60.0)]))
    lane.put(Piece(b"next"))
    now = moment()
    assert now + 50 < lane.due_at <= now + 60
    assert lane.send_to(pair[0], now + 50) is None
    assert heard(pair[1]) == b""
    lane.send_to(pair[0], now + 60)
    assert heard(pair[1]) == b"latenext"


def test_the_end_of_a_rule_ends_its_delay_and_no_other_one(pair: tuple[socket.socket, socket.socket]) -> None:
    lane, first, second = Lane(), Held(), Held()
    lane.put(Piece(b"late", delays=[(first, math.inf), (second, 60.0)]))
    assert lane.due_at == math.inf
    first.is_over = True
    assert lane.due_at < moment() + 60
    second.is_over = True
    lane.send_to(pair[0], moment())
    assert heard(pair[1]) == b"late"


def test_steps_are_sent_with_their_pauses(pair: tuple[socket.socket, socket.socket]) -> None:
    lane, rule = Lane(), Held()
    lane.put(Piece(b"abcde", paces=[(rule, Pace(2, pause=10.0))]))
    now = moment()
    steps = []
    for seconds in (0.0, 5.0, 10.0, 15.0, 20.0):
        lane.send_to(pair[0], now + seconds)
        steps.append(heard(pair[1]))
    assert steps == [b"ab", b"", b"cd", b"", b"e"]


def test_a_narrow_line_is_waited_for_before_each_step(pair: tuple[socket.socket, socket.socket]) -> None:
    lane, rule = Lane(), Held()
    lane.put(Piece(b"abcd", paces=[(rule, Pace(2, seconds_per_byte=5.0))]))
    now = moment()
    lane.send_to(pair[0], now + 9)
    assert heard(pair[1]) == b""
    lane.send_to(pair[0], now + 10)
    assert heard(pair[1]) == b"ab"
    rule.is_over = True
    lane.send_to(pair[0], now + 10)
    assert heard(pair[1]) == b"cd"


def test_a_socket_that_takes_no_more_blocks_the_lane(pair: tuple[socket.socket, socket.socket]) -> None:
    lane, data = Lane(), bytes(4 * LANE_LIMIT_BYTES)
    lane.put(Piece(data))
    assert lane.is_full
    lane.send_to(pair[0], moment())
    assert (lane.is_blocked, lane.due_at) == (True, math.inf)
    count = 0
    while lane or count < len(data):
        count += len(heard(pair[1]))
        lane.send_to(pair[0], moment())
    assert (count, lane.is_full, lane.is_blocked) == (len(data), False, False)
