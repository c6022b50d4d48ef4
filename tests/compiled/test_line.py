"""With the compiled turn and without it, the line protocol does the same, beside the other protocols on one store."""

from itertools import pairwise, product
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from memcache_kv.auth.access import CommandClass, Origin
from memcache_kv.compiled import ACCELERATED, HAS_GIL
from memcache_kv.config.settings import Settings
from memcache_kv.journal import Fsync, Journal, JournalDirectory
from memcache_kv.journal.record import rechained_lines
from memcache_kv.protocol.line.commands import is_word
from memcache_kv.protocol.line.framing import LINE
from memcache_kv.server.connection import Connection
from memcache_kv.server.worker import Worker
from memcache_kv.store.store import ItemStore
from tests.compiled.test_turn import LINES, START, Side, Step, compare, talk
from tests.protocol.text.test_fast_path import KEYS, REQUESTS
from tests.server.test_worker import Serving, read

if not (ACCELERATED and HAS_GIL):
    pytest.skip("the compiled turn is not in use", allow_module_level=True)

LINE_KEYS = KEYS | st.sampled_from(
    [b"k" * 256, b"k" * 257, b"", b"a b", b"a\t", b"\x7f", b"\xe9", b"a\r", b"a\0", b"b:1"]
)
VALUES = st.sampled_from(
    [b"v", b"12", b"!~-+/=_.", b"stored", b"v" * 255, b"v" * 256, b"v" * 257, b"", b" v", b"v\t", b"v\x7f", b"\xe9v"]
) | st.binary(max_size=20)
TTLS = st.sampled_from(
    [b"0", b"1", b"60", b"2592001", b"999999999", b"1000000000", b"2147483647", b"2147483648", b"00", b"060", b"+1",
     b"-1", b"", b"1 ", b"1 1", b"x", b"1\r"]
)  # fmt: skip
LINE_ENDS = st.sampled_from([b"\n"] * 6 + [b"\r\n"] * 6 + [b" \n", b"\r\r\n", b"\t\r\n", b"\n\n"])
LINE_REQUESTS = st.builds(
    lambda line, end: line + end,
    st.one_of(
        LINE_KEYS.map(b"GET %b".__mod__),
        LINE_KEYS.map(b"EXISTS %b".__mod__),
        LINE_KEYS.map(b"DELETE %b".__mod__),
        st.builds(b"PUT %b %b".__mod__, st.tuples(LINE_KEYS, VALUES)),
        st.builds(b"PUT %b %b %b".__mod__, st.tuples(LINE_KEYS, VALUES, TTLS)),
        st.sampled_from([
            b"", b" ", b"GET", b"GET ", b"PUT a", b"PUT a ", b"PUT  a v", b"get a", b"GETS a", b"EXIST a", b"DELETED a",
            b" GET a", b"GET a b", b"EXISTS a b", b"x" * 1024, b"x" * 1030, b"GET " + b"x" * 3000, b"\x80\x01",
        ]),
    ),
    LINE_ENDS,
)  # fmt: skip


def cut(requests: list[bytes], cuts: list[int]) -> list[Step]:
    data = b"".join(requests)
    edges = sorted({0, len(data), *(min(each, len(data)) for each in cuts)})
    return [("line", data[start:stop]) for start, stop in pairwise(edges)]


LINE_STREAMS = st.builds(
    cut, st.lists(LINE_REQUESTS, min_size=1, max_size=8), st.lists(st.integers(1, 300), max_size=3)
)
OTHER_STEPS: st.SearchStrategy[list[Step]] = st.one_of(
    (REQUESTS | LINES).map(lambda data: [("text", data)]),
    st.sampled_from([
        [("seconds", 1)], [("seconds", 120)], [("refuses", True)], [("refuses", False)], [("verbosity", 2)],
        [("verbosity", 0)], [("other", b"stats detail on\r\n")], [("other", b"stats detail off\r\n")],
        [("other", b"flush_all\r\n")], [("other", b"md a I\r\nmd v I\r\n")], [("other", b"me a\r\nme b\r\n")],
        [("other", b"mg a N0 T5 R100\r\n")], [("other", b"set a 0 0 5000\r\n%b\r\n" % (b"L" * 5000))],
        [("other", b"set a 0 0 70000\r\n%b\r\n" % (b"L" * 70_000))], [("other", b"set b 12 0 3\r\nb b\r\n")],
        [("other", b"set a 0 0 0\r\n\r\nset b 4294967295 9 256\r\n%b\r\n" % (b"v" * 256))], [("other", b"gets v\r\n")],
    ]),
)  # fmt: skip
SCRIPTS: st.SearchStrategy[list[Step]] = st.lists(LINE_STREAMS | LINE_STREAMS | OTHER_STEPS, max_size=8).map(
    lambda lists: [step for steps in lists for step in steps]
)
slowly = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@slowly
@given(SCRIPTS)
@example([("other", b"md a I\r\n"), ("line", b"GET a\nEXISTS a\nPUT a v\nGET a\n")])
@example([("refuses", True), ("line", b"PUT a v\nDELETE a\nPUT a v 5\nGET a\n")])
@example([("line", b"PUT a v 2592001\nGET a\n"), ("seconds", 2592000), ("line", b"GET a\nEXISTS a\n")])
@example([("other", b"flush_all\r\n"), ("line", b"GET a\nEXISTS a\nPUT a v\r\nDELETE a\n")])
def test_any_requests_do_the_same(steps: list[Step]) -> None:
    compare(Side, steps)


@slowly
@given(SCRIPTS, st.sampled_from([1, 2, 3]))
def test_short_turns_do_the_same(steps: list[Step], requests: int) -> None:
    compare(lambda is_compiled: Side(is_compiled, Settings(max_reqs_per_event=requests)), steps)


@slowly
@given(SCRIPTS)
def test_while_watchers_must_wait_the_same_is_counted(steps: list[Step]) -> None:
    compare(lambda is_compiled: Side(is_compiled, is_watched=True), steps)


@slowly
@given(SCRIPTS, st.sampled_from([
    Settings(disable_cas=True), Settings(disable_evictions=True), Settings(max_item_size=10_000),
    Settings(max_item_size=4096),
]))  # fmt: skip
def test_any_settings_do_the_same(steps: list[Step], options: Settings) -> None:
    compare(lambda is_compiled: Side(is_compiled, options), steps)


@slowly
@given(SCRIPTS)
def test_a_reader_changes_nothing(steps: list[Step]) -> None:
    def make(is_compiled: bool) -> Side:
        side = Side(is_compiled)
        side.line.protocol.permit(Origin("tcp:10.0.0.9:1", False, CommandClass.READ))
        return side

    compare(make, steps)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(LINE_REQUESTS.filter(lambda line: len(line) < 30), min_size=2, max_size=4))
@example([b"PUT a v 5\r\n", b"GET a\n", b"GET  a\r\n", b"EXISTS a\r\n", b"DELETE a\n"])
def test_it_may_be_cut_anywhere(requests: list[bytes]) -> None:
    data = b"".join(requests)
    whole = Side(True)
    expected = [whole.take(step) for step in [*START, ("line", data)]][-1]
    for edge in range(1, len(data)):
        side = Side(True)
        for step in START:
            side.take(step)
        assert b"".join([side.line.feed(data[:edge]), side.line.feed(data[edge:])]) == expected
        assert side.state() == whole.state()


@pytest.mark.parametrize("at_once", [1, 7, 100])
def test_what_is_read_stays_as_long(at_once: int) -> None:
    random = Random(at_once)
    forms = [b"PUT key%d " + b"v" * 256 + b"\n", b"GET key%d\n", b"EXISTS key%d\r\n"]
    requests = [random.choice(forms) % min(random.randrange(900), random.randrange(900)) for _ in range(5000)]
    compiled, interpreted = (Side(each, Settings(memory_limit=1 << 18, max_item_size=8192)) for each in (True, False))
    for start in range(0, len(requests), at_once):
        step = ("line", b"".join(requests[start : start + at_once]))
        assert compiled.take(step) == interpreted.take(step)
    assert compiled.state() == interpreted.state()
    assert compiled.around.store.records_access


def lines_done(side: Side, data: bytes) -> int:
    requests = side.around.context.requests
    assert requests is not None
    _, done = requests.run_line(side.line.protocol, data, 0, 99)
    side.line.protocol.out.clear()
    return done


def test_exactly_words_are_compiled() -> None:
    side = Side(True)
    assert lines_done(side, b"PUT a b\n") == 1
    for size, byte in product([1, 2, 7, 8, 9, 15, 16, 17, 30], range(256)):
        for place in range(size):
            word = b"w" * place + bytes([byte]) + b"w" * (size - place - 1)
            if byte not in b" \n":
                assert lines_done(side, b"PUT a %b\r\n" % word) == bool(is_word(word)), word
                assert lines_done(side, b"EXISTS %b\r\n" % word) == bool(is_word(word)), word
    for size in (255, 256, 257):
        assert lines_done(side, b"PUT %b %b 999999999\n" % (b"k" * size, b"v" * size)) == (size < 257)


def test_a_value_that_it_cannot_carry_is_left_to_the_other_way() -> None:
    side = Side(True)
    for size, byte in product([1, 7, 8, 9, 256], range(256)):
        word = bytes([byte]) + b"w" * (size - 1)
        side.take(("text", b"set a 12 0 %d\r\n%b\r\n" % (size, word)))
        assert lines_done(side, b"GET a\n") == bool(is_word(word)), word
        assert lines_done(side, b"EXISTS a\n") == 1


def test_requests_in_their_common_form_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ItemStore, "put", None)
    monkeypatch.setattr(ItemStore, "get", None)
    side = Side(True)
    data = b"PUT a b\nPUT c d 60\r\nGET a\r\nGET c\nGET none\nEXISTS a\nEXISTS none\r\nDELETE a\nDELETE a\r\n"
    requests = side.around.context.requests
    assert requests is not None
    assert requests.run_line(side.line.protocol, data, 0, 99) == (len(data), 9)
    assert b"".join(side.line.protocol.out) == (
        b"OK stored\nOK stored\r\nOK b\r\nOK d\nERROR key not found\nOK 1\nOK 0\r\nOK deleted\nERROR key not found\r\n"
    )


def test_a_real_journal_gets_the_same(tmp_path: Path) -> None:
    positions, written = [], []
    for name in ("compiled", "interpreted"):
        side = Side(name == "compiled")
        (tmp_path / name).mkdir()
        journal = Journal(JournalDirectory(tmp_path / name), Fsync.EVERYSEC, now=1_700_000_000)
        side.around.store.log = side.around.context.journal = journal
        if name == "compiled":
            side.around.renew_requests()
        for data in (b"PUT x hi 60\nPUT y ho\r\nDELETE x\n", b"PUT z %b\nDELETE none\nPUT y hey\n" % (b"z" * 256)):
            side.take(("line", data * 9))
            side.take(("seconds", 1))
        positions.append(journal.position)
        journal.close()
        [path] = [path for path in (tmp_path / name).rglob("*") if path.is_file() and path.stat().st_size > 500]
        _, *lines = path.read_bytes().splitlines(keepends=True)  # each journal has an id of its own
        written.append(rechained_lines(b"".join(lines), 0)[0].splitlines())
    assert positions[0] == positions[1]
    assert written[0] == written[1]


# Through sockets

LISTENING = Settings(line_listen=("0",))


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(LINE_REQUESTS, max_size=12), st.sampled_from([1 << 20, 30, 300]))
def test_what_comes_through_a_socket_is_answered_the_same(requests: list[bytes], size: int) -> None:
    start = b"".join([what for kind, what in START if kind == "text" and isinstance(what, bytes)])
    answers = []
    for is_interpreted in (False, True):
        serving = Serving(LISTENING, is_interpreted=is_interpreted)
        try:
            replies = [talk(serving, start, 1 << 20), talk(serving, b"".join(requests), size, LINE)]
        finally:
            serving.close()
        answers.append((replies, serving.around.counts() | {"longest_turn_us": 0, "slow_turns": 0}))
    assert answers[0] == answers[1]


@pytest.mark.usefixtures("unmeasured")
def test_the_turn_itself_serves_a_line_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Connection] = []
    monkeypatch.setattr(Worker, "serve", lambda worker, connection: served.append(connection))
    monkeypatch.setattr(Worker, "serve_rest", lambda worker, connection, *rest: served.append(connection))
    serving = Serving(LISTENING)
    client = serving.connect(LINE)
    for number in range(5):
        client.sendall(b"PUT a %d\nGET a\nEXISTS a\nDELETE a\r\n" % number)
        reply = b"OK stored\nOK %d\nOK 1\nOK deleted\r\n" % number
        assert read(client, len(reply)) == reply
    serving.close()
    assert not served
