"""The simple dialect: its short set, its reply to a miss, and all else as in the text protocol."""

import pytest

from memcache_kv.auth.access import CommandClass, Origin
from memcache_kv.config.settings import Settings
from memcache_kv.protocol.text.multiget import KEYS_PER_TURN
from memcache_kv.protocol.text.simple import SIMPLE, GuardedSimpleProtocol, SimpleProtocol, open_simple
from tests.protocol.context_factory import Conversation, Surroundings, byte_by_byte
from tests.protocol.credentials import AtOnce, OneUser
from tests.protocol.text.text_cases import CASES

STORED, MISS = b"STORED\r\n", b"Not-Exists\r\n"


class SimpleTalk(Conversation):
    """A conversation in the simple dialect."""

    def __init__(self, around: Surroundings | None = None, fd: int = 30) -> None:
        super().__init__(around, fd)
        self.protocol = SimpleProtocol(self.around.context, fd)


EXAMPLES = [
    (b"set k 5\r\nhello\r\nget k\r\n", STORED + b"VALUE k 0 5\r\nhello\r\nEND\r\n"),
    (b"set k 5\nhello\r\nget k\n", STORED + b"VALUE k 0 5\r\nhello\r\nEND\r\n"),
    (b"set k 7 0 5\r\nhello\r\nget k\r\n", STORED + b"VALUE k 7 5\r\nhello\r\nEND\r\n"),
    (b"set k 1\r\na\r\nset k 2\r\nbb\r\nget k\r\n", STORED * 2 + b"VALUE k 0 2\r\nbb\r\nEND\r\n"),
    (b"set k 0\r\n\r\nget k\r\n", STORED + b"VALUE k 0 0\r\n\r\nEND\r\n"),
    (b"  set  k  1  \r\na\r\nget k\r\n", STORED + b"VALUE k 0 1\r\na\r\nEND\r\n"),
    (b"get k\r\ngets k\r\ngat 9 k\r\ngats 9 k l\r\n", MISS * 4),
    (b"set k 1\r\na\r\nget l k m\r\n", STORED + b"VALUE k 0 1\r\na\r\nEND\r\n"),
    (b"get k l\r\n", MISS),
    (b"set k x\r\nset k -1\r\nset k\r\n", b"CLIENT_ERROR bad command line format\r\n" * 3),
    (b"set k 2\r\nabc\r\n", b"CLIENT_ERROR bad data chunk\r\nCLIENT_ERROR bad command line format\r\n"),
    (b"add k 5\r\n", b"CLIENT_ERROR bad command line format\r\n"),
    (b"set k 1\r\na\r\nmg k v\r\nmg l v\r\ndelete k\r\ndelete k\r\n",
     STORED + b"VA 1\r\na\r\nEN\r\nDELETED\r\nNOT_FOUND\r\n"),
]  # fmt: skip


@pytest.mark.parametrize(("requests", "replies"), EXAMPLES)
def test_it_answers_however_the_input_is_cut(requests: bytes, replies: bytes) -> None:
    assert SimpleTalk().feed(requests) == replies
    assert SimpleTalk().feed_pieces(*byte_by_byte(requests)) == replies
    for cut in range(len(requests)):
        assert SimpleTalk().feed_pieces(requests[:cut], requests[cut:]) == replies


def test_it_is_logged_as_it_was_asked() -> None:
    talk = SimpleTalk(Surroundings(verbosity=2))
    talk.feed(b"set k 1\r\na\r\nget k\r\nget l\r\n")
    assert talk.around.logged == [
        "<30 set k 1", ">30 STORED", "<30 get k", ">30 sending key k", ">30 END", "<30 get l", ">30 Not-Exists",
    ]  # fmt: skip


def says_the_same(request: bytes) -> bool:
    """Tell whether the simple dialect answers as the text protocol does, but for misses."""
    expected, found = Conversation().feed(request), SimpleTalk().feed(request)
    return found.replace(MISS, b"END\r\n") == expected


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_all_else_is_the_text_protocol(case: tuple[str, bytes, bytes]) -> None:
    assert says_the_same(case[1])


def test_a_get_of_many_keys_has_one_reply_for_all_misses() -> None:
    keys = b" ".join(b"k%d" % number for number in range(3 * KEYS_PER_TURN))
    talk = SimpleTalk()
    assert talk.feed(b"get " + keys + b"\r\n") == MISS
    talk.feed(b"set k0 1\r\na\r\n")
    assert talk.feed(b"get " + keys + b"\r\n") == b"VALUE k0 0 1\r\na\r\nEND\r\n"
    long = b" ".join(b"%0200d" % number for number in range(300))
    assert talk.feed(b"get " + long + b"\r\n") == MISS


def test_a_reader_may_not_use_the_short_set() -> None:
    talk = SimpleTalk()
    talk.protocol.permit(Origin("tcp:10.0.0.9:1", False, CommandClass.READ))
    assert talk.feed(b"set k 1\r\na\r\nget k\r\n") == b"CLIENT_ERROR set not allowed\r\n" + MISS


def test_a_login_comes_first_where_one_is_needed() -> None:
    around = Surroundings()
    protocol = open_simple(around.context, 30, AtOnce(OneUser()), Origin())
    assert type(protocol) is GuardedSimpleProtocol
    assert SIMPLE.asks_for_login(CommandClass.READ)
    talk = Conversation(around)
    talk.protocol = protocol
    assert talk.feed(b"get key\r\n") == b"CLIENT_ERROR unauthenticated\r\n"
    assert talk.feed(b"set x 0 0 9\r\nuser pass\r\nset k 1\r\na\r\nget l\r\n") == STORED * 2 + MISS


def test_it_is_plain_without_users() -> None:
    assert type(open_simple(Surroundings(Settings()).context, 30, None, Origin())) is SimpleProtocol
