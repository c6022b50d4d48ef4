"""Meta commands over time, and with limits; what they answer at once stands in meta_cases.py."""

import pytest

from memcache_kv.config.settings import Settings
from memcache_kv.protocol.meta.flags import decoded
from tests.protocol.command_cases import CONDITIONAL_CASES, PLAIN_CASES, CommandCase, Result, check
from tests.protocol.context_factory import Conversation, Surroundings
from tests.protocol.meta import spelled

MIB = 1 << 20


@pytest.fixture
def talk() -> Conversation:
    return Conversation()


def pass_time(talk: Conversation, seconds: int) -> None:
    talk.around.clock.advance(seconds)


def test_l_is_the_time_since_it_was_last_read_or_stored(talk: Conversation) -> None:
    talk.feed(b"set a 0 0 1\r\nx\r\nmg a l u\r\nset a 0 0 1\r\nx\r\n")
    pass_time(talk, 5)
    assert talk.feed(b"mg a l u\r\nmg a l\r\nmg a l\r\n") == b"HD l5\r\nHD l5\r\nHD l0\r\n"
    pass_time(talk, 3)
    assert talk.feed(b"get a\r\nmg a l\r\n") == b"VALUE a 0 1\r\nx\r\nEND\r\nHD l0\r\n"


def test_l_counts_from_the_start_of_the_server_until_a_read_is_recorded(talk: Conversation) -> None:
    pass_time(talk, 30)
    talk.feed(b"set a 0 0 1\r\nx\r\n")
    pass_time(talk, 70)
    assert talk.feed(b"mg a l h u\r\n") == b"HD l100 h0\r\n"
    pass_time(talk, 5)
    assert talk.feed(b"mg a l h\r\nmg a l h\r\n") == b"HD l105 h0\r\nHD l0 h1\r\n"


def test_a_request_about_one_key_changes_no_other(talk: Conversation) -> None:
    talk.feed(b"ms a 1\r\nx\r\nms b 1\r\nx\r\nms c 1 T100\r\nx\r\n")
    table = {key: talk.around.store.kept(key) for key in (b"b", b"c")}
    talk.feed(b"mg a h l t\r\nme a\r\nmg none h l\r\nme none\r\nmg b t\r\nget b c\r\nmg b v\r\nmg c t\r\n")
    for key, entry in table.items():
        assert talk.around.store.kept(key) is entry


def test_an_item_with_a_ttl_does_so_too(talk: Conversation) -> None:
    talk.feed(b"ms a 1 T500\r\nx\r\n")
    pass_time(talk, 100)
    assert talk.feed(b"mg a l t\r\n") == b"HD l100 t400\r\n"
    pass_time(talk, 5)
    assert talk.feed(b"mg a l t\r\n") == b"HD l5 t395\r\n"


def test_who_wins_lets_the_others_wait_until_the_key_is_stored_anew(talk: Conversation) -> None:
    talk.feed(b"ms a 1 T60\r\nx\r\n")
    pass_time(talk, 40)
    assert talk.feed(b"mg a R30 t v\r\n" * 3) == b"VA 1 t20 W\r\nx\r\n" + b"VA 1 t20 Z\r\nx\r\n" * 2
    talk.feed(b"ms a 1 T60\r\ny\r\n")
    assert talk.feed(b"mg a R30 t v\r\n") == b"VA 1 t60\r\ny\r\n"


def test_what_was_invalidated_is_served_for_its_new_ttl(talk: Conversation) -> None:
    talk.feed(b"ms a 1 T600\r\nx\r\nmd a I T30\r\n")
    pass_time(talk, 29)
    assert talk.feed(b"mg a v t\r\nmg a v t\r\n") == b"VA 1 t1 X W\r\nx\r\nVA 1 t1 Z X\r\nx\r\n"
    pass_time(talk, 1)
    assert talk.feed(b"mg a v t\r\n") == b"EN\r\n"


def test_what_was_filled_in_expires(talk: Conversation) -> None:
    assert talk.feed(b"mg a N10 t\r\nma n N10 J5 t\r\n") == b"HD t10 W\r\nHD t10\r\n"
    pass_time(talk, 10)
    assert talk.feed(b"mg a\r\nma n\r\n") == b"EN\r\nNF\r\n"


def test_ttls_mean_what_those_of_set_mean(talk: Conversation) -> None:
    now = talk.around.clock.now
    talk.feed(b"ms past 1 T-1\r\nx\r\nms date 1 T%d\r\nx\r\nms month 1 T2592000\r\nx\r\n" % (now + 90))
    assert talk.feed(b"mg past t\r\nmg date t\r\nmg month t\r\n") == b"EN\r\nHD t90\r\nHD t2592000\r\n"


def test_what_has_just_expired_has_no_time_left(talk: Conversation) -> None:
    talk.feed(b"ms a 1\r\nx\r\n")
    assert talk.feed(b"mg a T-1 t\r\nmg a t\r\n") == b"HD t0\r\nEN\r\n"


def test_me_tells_what_is_known(talk: Conversation) -> None:
    pass_time(talk, 10)
    talk.feed(b"ms a 3 T60\r\nfoo\r\n")
    first = talk.feed(b"me a\r\n")
    size = talk.around.store.used_bytes
    assert first == b"ME a exp=60 la=10 cas=1 fetch=no cls=1 size=%d\r\n" % size
    pass_time(talk, 5)
    talk.feed(b"ms a 3 T60\r\nfoo\r\n")
    pass_time(talk, 5)
    assert talk.feed(b"me a\r\n") == b"ME a exp=55 la=5 cas=2 fetch=no cls=1 size=%d\r\n" % size
    talk.feed(b"get a\r\n")
    assert talk.feed(b"me YQ== b\r\n") == b"ME YQ== exp=55 la=0 cas=2 fetch=yes cls=1 size=%d\r\n" % size


def test_a_value_too_large_takes_the_old_one_with_it() -> None:
    talk = Conversation(Surroundings(Settings(max_item_size=1024)))
    talk.feed(b"ms a 1\r\nx\r\n")
    refused = talk.feed(b"ms a 2000 q MA\r\n" + b"x" * 2000 + b"\r\nmg a\r\n")
    assert refused == b"SERVER_ERROR object too large for cache\r\nEN\r\n"


def test_without_memory_nothing_is_filled_in() -> None:
    talk = Conversation(Surroundings(Settings(memory_limit=MIB, max_item_size=MIB // 2, disable_evictions=True)))
    value = b"x" * 100_000
    while talk.feed(b"ms k%d 100000 q\r\n%b\r\n" % (len(talk.around.store), value)) == b"":
        pass
    talk.feed(b"set small 0 0 30000\r\n" + b"x" * 30000 + b"\r\n")
    number = 0
    while talk.feed(b"mg n%d N60 q O1\r\n" % number) != b"":
        number += 1
    assert talk.feed(b"mg n N60 k\r\n") == b"EN kn\r\n"
    assert talk.feed(b"ma n N60\r\n") == b"SERVER_ERROR Out of memory allocating new item\r\n"
    assert talk.feed(b"ms n 50000 q\r\n" + b"x" * 50000 + b"\r\n") == b"SERVER_ERROR out of memory storing object\r\n"


def test_meta_commands_are_counted_with_the_classic_ones(talk: Conversation) -> None:
    talk.feed(b"ms a 1 q\r\n1\r\nmg a q\r\nmg b q\r\nmg a T5 q\r\n")
    talk.feed(b"ma a q\r\nma b q\r\nma a MD q\r\nmd a C9 q\r\nmd a q\r\nme a\r\n")
    counted = {name: count for name, count in talk.around.counts().items() if count}
    assert counted == {
        "cmd_set": 1, "cmd_get": 2, "get_hits": 1, "get_misses": 1, "cmd_touch": 1, "touch_hits": 1, "incr_hits": 1,
        "incr_misses": 1, "decr_hits": 1, "delete_misses": 1, "delete_hits": 1, "cmd_meta": 1,
    }  # fmt: skip


def test_with_cas_disabled_every_id_is_0() -> None:
    talk = Conversation(Surroundings(Settings(disable_cas=True)))
    assert talk.feed(b"ms a 1 c E5\r\nx\r\nmg a c\r\nma a c\r\nmg n N0 c\r\n") == (
        b"HD c0\r\nHD c0\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\nHD c0 W\r\n"
    )
    assert talk.feed(b"gets a\r\ngats 0 a\r\n") == b"VALUE a 0 1 0\r\nx\r\nEND\r\n" * 2
    assert talk.feed(b"cas a 0 0 1 0\r\ny\r\ncas a 0 0 1 5\r\ny\r\n") == b"EXISTS\r\n" * 2
    assert talk.feed(b"ms a 1 C1 I\r\ny\r\nmd a C5\r\nmd a I\r\nmg a c\r\n") == b"EX\r\nEX\r\nHD\r\nHD c0 X W\r\n"


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"md a C0", b"HD\r\n"),
        (b"md a C999", b"EX\r\n"),
        (b"ms a 1 MA C999\r\nx", b"HD\r\n"),
        (b"ms a 1 C999\r\nx", b"EX\r\n"),
        (b"ms a 1 C0\r\nx", b"EX\r\n"),
        (b"ms n 1 MA N0 C5 c\r\nx", b"HD c0\r\n"),
        (b"mg a C0 v", b"HD\r\n"),
        (b"mg a C5 v", b"VA 1\r\n1\r\n"),
        (b"mg n N0 E1000000000000 c", b"HD c0 W\r\n"),
        (b"md a x E1000000000000\r\nmg a c v", b"HD\r\nVA 0 c0\r\n\r\n"),
        (b"md a I E1000000000000\r\nmg a c", b"HD\r\nHD c0 X W\r\n"),
        (b"ms a 1 E5 c\r\nx\r\nmg a c", b"HD c0\r\nHD c0\r\n"),
        (b"ma a E5 c\r\nmg a c", b"HD c0\r\nHD c0\r\n"),
        (b"ma n N0 E5 c\r\nmg n c", b"HD c0\r\nHD c0\r\n"),
        (b"ma a C5", b"EX\r\n"),
    ],
)
def test_with_cas_disabled_items_have_the_id_0_whatever_is_asked(request_: bytes, reply: bytes) -> None:
    talk = Conversation(Surroundings(Settings(disable_cas=True)))
    talk.feed(b"set a 0 0 1\r\n1\r\n")
    assert talk.feed(request_ + b"\r\n") == reply


def test_where_items_have_ids_none_is_0() -> None:
    talk = Conversation()
    talk.feed(b"set a 0 0 1\r\n1\r\n")
    assert talk.feed(b"mg a C0 v\r\nmd a C0\r\nmg a c\r\n") == b"VA 1\r\n1\r\nEX\r\nHD c1\r\n"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (b"Zm9v", b"foo"),
        (b"Zm8=", b"fo"),
        (b"Zg==", b"f"),
        (b"Z!m9v", b"foo"),
        (b"Zm8=Zm9v", b"fo"),
        (b"Zg=x", b"f\x00"),
        (b"Zm9", b""),
        (b"====", b""),
        (b"Z===", b""),
        (b"", b""),
        (b"!", b""),
    ],
)
def test_base64_is_read_as_memcached_reads_it(text: bytes, key: bytes) -> None:
    assert decoded(text) == key


@pytest.mark.parametrize("case", [*PLAIN_CASES, *CONDITIONAL_CASES], ids=lambda case: case.name)
def test_a_command_does_what_it_does_in_every_protocol(case: CommandCase) -> None:
    def carry_out(around: Surroundings) -> Result:
        return spelled.read(Conversation(around).feed(spelled.written(case.command)), case.command)

    check(case, carry_out, is_meta=True)
