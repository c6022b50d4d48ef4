"""The login of -Y: the file of users, and that nothing else works before it."""

from pathlib import Path

import pytest

from memcache_kv.auth.users import Users, parse_users
from memcache_kv.errors import ConfigError
from memcache_kv.protocol.text.login import GuardedTextProtocol
from memcache_kv.version import PROTOCOL_VERSION
from tests.protocol.context_factory import Conversation, Surroundings, byte_by_byte
from tests.protocol.credentials import AtOnce, Later

LOGIN = b"set any 0 0 8\r\nann s ct\r\n"
UNAUTHENTICATED = b"CLIENT_ERROR unauthenticated\r\n"
FAILURE = b"CLIENT_ERROR authentication failure\r\n"
VERSION = b"VERSION " + PROTOCOL_VERSION.encode() + b"\r\n"


class GuardedConversation(Conversation):
    """A conversation with a protocol that asks for a login."""

    def __init__(self, users: Users | Later) -> None:
        super().__init__(Surroundings(verbosity=2))
        credentials = users if isinstance(users, Later) else AtOnce(users)
        self.protocol = GuardedTextProtocol(self.around.context, 30, credentials)

    @property
    def counts(self) -> tuple[int, int]:
        """How many logins were tried, and how many failed."""
        return self.around.counters.auth_cmds, self.around.counters.auth_errors


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_bytes(b"ann:s ct\nbob:\n")
    return path


@pytest.fixture
def talk(file: Path) -> GuardedConversation:
    return GuardedConversation(Users(file))


# The protocol


def test_after_the_login_everything_works(talk: GuardedConversation) -> None:
    assert talk.feed(LOGIN) == b"STORED\r\n"
    assert talk.feed(b"set a 0 0 1\r\nx\r\nget a\r\n") == b"STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n"
    assert talk.counts == (1, 0)


def test_the_login_stores_nothing(talk: GuardedConversation) -> None:
    assert talk.feed(LOGIN + b"get any\r\n") == b"STORED\r\nEND\r\n"


def test_after_the_login_a_set_is_a_set(talk: GuardedConversation) -> None:
    assert talk.feed(LOGIN + b"set k 0 0 7\r\nann bad\r\nget k\r\n") == (
        b"STORED\r\nSTORED\r\nVALUE k 0 7\r\nann bad\r\nEND\r\n"
    )


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"get foo\r\n", UNAUTHENTICATED),
        (b"version\r\n", UNAUTHENTICATED),
        (b"get foo a b 7\r\n", UNAUTHENTICATED),
        (b"set foo 0 0\r\n", UNAUTHENTICATED),
        (b"set foo 0 0 x\r\n", UNAUTHENTICATED),
        (b"set foo 0 0 -1\r\n", UNAUTHENTICATED),
        (b"set foo 0 0 4294967296\r\n", UNAUTHENTICATED),
        (b" set foo 0 0 7\r\n", UNAUTHENTICATED),
        (b"set foo 0 0 8\nann s ct\r\n", UNAUTHENTICATED * 2),
        (b"set foo 0 0 16385\r\n", b"CLIENT_ERROR auth token too long\r\n"),
        (b"set foo 0 0 2147483646\r\n", b"CLIENT_ERROR auth token too long\r\n"),
        (b"set foo 0 0 2\r\nhi\r\n", b"CLIENT_ERROR bad authentication token format\r\n"),
        (b"set foo 0 0 0\r\n\r\n", b"CLIENT_ERROR bad authentication token format\r\n"),
        (b"set foo 0 0 8\r\nann s ctXY", b"CLIENT_ERROR bad command line termination\r\n"),
        (b"set foo 0 0 8\r\nann S ct\r\n", FAILURE),
        (b"set foo 0 0 8\r\nann s c \r\n", FAILURE),
        (b"set foo 0 0 8\r\nbob s ct\r\n", FAILURE),
        (b"set foo 0 0 4\r\nann \r\n", FAILURE),
        (b"set foo 0 0 1\r\n \r\n", FAILURE),
        (b"set foo 0 0 16384\r\n" + b"a" * 8000 + b" " + b"b" * 8383 + b"\r\n", FAILURE),
        (b"settle foo 0 0 8\r\nann s ct\r\n", b"STORED\r\n"),
        (b"set foo x y 00008 more words\r\nann s ct\r\n", b"STORED\r\n"),
        (b"set foo 0 0 4\r\nbob \r\n", b"STORED\r\n"),
    ],
)
@pytest.mark.parametrize("pieces", ["at once", "byte by byte"])
def test_before_the_login_every_request_is_answered_as_memcached_does(
    talk: GuardedConversation, request_: bytes, reply: bytes, pieces: str
) -> None:
    said = talk.feed(request_) if pieces == "at once" else talk.feed_pieces(*byte_by_byte(request_))
    assert said == reply
    assert not talk.protocol.closing


def test_a_login_may_be_tried_again(talk: GuardedConversation) -> None:
    wrong = b"set foo 0 0 7\r\nfoo bar\r\n"
    assert talk.feed(wrong + b"get a\r\n" + wrong + LOGIN + b"version\r\n") == (
        FAILURE + UNAUTHENTICATED + FAILURE + b"STORED\r\n" + VERSION
    )
    assert talk.counts == (3, 2)


@pytest.mark.parametrize("data", [b"mn\r\n", b"quit\r\n", b"\r\n\r\n", b"x" * 2049, b"get " + b"k" * 2045])
def test_what_cannot_become_a_login_ends_the_connection(talk: GuardedConversation, data: bytes) -> None:
    assert talk.feed(data) == b""
    assert talk.protocol.closing
    assert talk.feed(LOGIN) == b""


@pytest.mark.parametrize("data", [b"", b"\r\n", b"x" * 2048, b"set foo 0 0 8\r\nann s ct\r"])
def test_what_may_yet_become_a_login_is_waited_for(talk: GuardedConversation, data: bytes) -> None:
    assert talk.feed(data) == b""
    assert not talk.protocol.closing


def test_what_was_stored_before_the_login_is_not_there(talk: GuardedConversation) -> None:
    talk.feed(b"set a 0 0 1\r\nx\r\n")
    assert len(talk.around.store) == 0


def test_neither_user_nor_password_is_logged(talk: GuardedConversation) -> None:
    talk.feed(b"set foo 0 0 10\r\nmary tudor\r\n" + LOGIN)
    talk.feed(b"version\r\n")
    said = "\n".join(talk.around.logged)
    assert "VERSION" in said
    for secret in ("ann", "s ct", "mary", "tudor"):
        assert secret not in said


# The file

BAD_LINE = "has a malformed entry. Should be 'user:password'"


@pytest.mark.parametrize(
    ("data", "users"),
    [
        (b"foo:bar\n", [(b"foo", b"bar")]),
        (b"foo:bar", [(b"foo", b"bar")]),
        (b"foo:bar\r\nbaz:q:u x\r\n", [(b"foo", b"bar"), (b"baz", b"q:u x")]),
        (b":\n", [(b"", b"")]),
        (b"", []),
        (b"a:b\0c\nd:e\n", [(b"a", b"b")]),
        (b"a:" + b"x" * 300 + b"\nb:c\n", [(b"a", b"x" * 253)]),
        (b"a:" + b"x" * 252 + b"\nb:c\n", [(b"a", b"x" * 252), (b"b", b"c")]),
        (b"".join(b"u%d:p\n" % n for n in range(10)), [(b"u%d" % n, b"p") for n in range(8)]),
    ],
)
def test_a_file_is_read_as_memcached_reads_it(data: bytes, users: list[tuple[bytes, bytes]]) -> None:
    assert list(parse_users(data)) == [(name, password, None) for name, password in users]


@pytest.mark.parametrize("data", [b"foo\n", b"a:b\n\n", b"a:b\nfoo", b"a\0b:c\n", b"x" * 300 + b":a\n", b"\n"])
def test_a_line_without_a_user_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        Users(path)
    assert str(caught.value) == f"Authfile [{path}] {BAD_LINE}"
    assert caught.value.status == 1


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Users(tmp_path / "none")
    assert str(caught.value) == (
        f"Could not open authfile [{tmp_path / 'none'}] for reading, error No such file or directory"
    )
    assert caught.value.status == 1


def test_a_file_that_is_read_again_has_its_new_users(file: Path) -> None:
    users = Users(file)
    file.write_bytes(b"eve:new\n")
    assert users.is_known(b"ann", b"s ct")
    users.reload()
    assert users.is_known(b"eve", b"new")
    assert not users.is_known(b"ann", b"s ct")


@pytest.mark.parametrize("broken", [b"no colon\n", None])
def test_a_file_that_has_become_unusable_leaves_the_old_users(file: Path, broken: bytes | None) -> None:
    users = Users(file)
    if broken is None:
        file.unlink()
    else:
        file.write_bytes(broken)
    with pytest.raises(ConfigError):
        users.reload()
    assert users.is_known(b"ann", b"s ct")


# A password that is checked later


@pytest.mark.parametrize(
    ("token", "answer"), [(b"user pass", b"STORED\r\n" + VERSION), (b"user word", FAILURE + UNAUTHENTICATED)]
)
def test_nothing_is_carried_out_before_the_check_and_all_of_it_afterwards(token: bytes, answer: bytes) -> None:
    later = Later()
    guarded = GuardedConversation(later)
    assert guarded.feed(b"set a 0 0 9\r\n" + token + b"\r\nversion\r\n") == b""
    assert guarded.counts == (1, 0)
    assert not guarded.protocol.paused
    guarded.protocol.resume()
    assert b"".join(guarded.protocol.out) == answer
    assert len(later.asked) == 1
    assert guarded.counts == (1, int(token != b"user pass"))


def test_one_check_at_a_time_is_asked_for() -> None:
    later = Later()
    guarded = GuardedConversation(later)
    guarded.feed(b"set a 0 0 9\r\nuser word\r\nset a 0 0 9\r\nuser pass\r\nversion\r\n")
    assert later.asked == [(b"user", b"word")]
    guarded.protocol.resume()
    assert later.asked == [(b"user", b"word"), (b"user", b"pass")]
    guarded.protocol.resume()
    assert b"".join(guarded.protocol.out) == FAILURE + b"STORED\r\n" + VERSION
