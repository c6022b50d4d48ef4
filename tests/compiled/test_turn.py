"""With the compiled turn and without it, replies, counts, what is stored and what the journal gets are the same."""

import socket
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from struct import pack as pack_numbers
from threading import Lock, Thread

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from memcache_kv.compiled import ACCELERATED, HAS_GIL
from memcache_kv.config.settings import Settings
from memcache_kv.journal import Fsync, Journal, JournalDirectory
from memcache_kv.journal.record import rechained_lines
from memcache_kv.journal.record_queue import QUEUED_OVERHEAD_BYTES
from memcache_kv.observe.budget import Budget
from memcache_kv.observe.observers import Observers
from memcache_kv.observe.watchers import REQUEST_STREAMS
from memcache_kv.protocol.binary.frames import Opcode
from memcache_kv.protocol.dialect import Dialect
from memcache_kv.protocol.text.framing import LINE_LIMIT_BYTES
from memcache_kv.store.entry import JOURNALED, Entry, cas_of, deadline_of, flags_of, state_of, value_of, wire_bytes_of
from memcache_kv.store.store import ItemStore
from tests.fake_clock import FakeClock
from tests.protocol.binary.binary_packets import BinaryConversation, Packet
from tests.protocol.context_factory import Conversation, Surroundings
from tests.protocol.line.line_talk import LineTalk
from tests.protocol.spellings import all_spelled, line_ends
from tests.protocol.text.test_fast_path import KEYS, REQUESTS
from tests.server.test_worker import Serving

if not (ACCELERATED and HAS_GIL):
    pytest.skip("the compiled turn is not in use", allow_module_level=True)

MANY = 200
Step = tuple[str, object]


class Recorder:
    """A journal that keeps what it gets. It rejects writes while `refuses` is set."""

    def __init__(self) -> None:
        self.kept: list[tuple[object, ...]] = []
        self.refuses = False
        self.refusals = 0
        self.queue: list[bytes] = []
        self.queue_lock, self.queued_bytes, self.queue_limit_bytes = Lock(), 0, 1 << 30
        self.position = 0
        self.positions: dict[int, int] = {}
        self.unstamped_second = 0

    @property
    def records(self) -> list[tuple[object, ...]]:
        """What it got, in order."""
        queue = list(self.queue)
        assert self.queued_bytes == sum(map(len, queue)) + QUEUED_OVERHEAD_BYTES * len(queue) // 2
        assert self.position == len(queue) // 2
        self.queue.clear()
        self.position = self.queued_bytes = 0
        for key, entry in zip(queue[::2], queue[1::2], strict=True):
            self.keep(key, entry)
        return self.kept

    def append(self) -> bool:
        """Let nobody wait."""
        return True

    def own_position(self) -> int:
        return self.position

    def put(self, key: bytes, entry: Entry) -> None:
        assert self.records is self.kept
        self.keep(key, entry)

    def keep(self, key: bytes, entry: Entry) -> None:
        wire_bytes = wire_bytes_of(entry)
        what = flags_of(wire_bytes), deadline_of(entry), cas_of(entry), value_of(wire_bytes)
        self.kept.append(("stored", key, *what, state_of(entry) & JOURNALED))

    def stored(self, key: bytes, flags: int, deadline: int, cas: int, value: bytes, state: int = 0) -> None:
        self.records.append(("stored", key, flags, deadline, cas, value, state & JOURNALED))

    def deleted(self, key: bytes) -> None:
        self.records.append(("deleted", key))

    def touched(self, key: bytes, deadline: int) -> None:
        self.records.append(("touched", key, deadline))

    def cas_assigned(self, key: bytes, cas: int) -> None:
        self.records.append(("cas", key, cas))

    def marked(self, key: bytes, deadline: int, cas: int, state: int) -> None:
        self.records.append(("marked", key, deadline, cas, state))

    def flushed(self, at: int) -> None:
        self.records.append(("flushed", at))

    def follow_wall(self, now: int, wall_ahead: int) -> None:
        """Keep nothing: these clocks do not step."""

    def new_second(self, now: int) -> None:
        """Keep nothing: the Python code is told of it too."""


class Side:
    """A server of which a connection of each protocol is used: with compiled code or without it."""

    def __init__(self, is_compiled: bool, options: Settings | None = None, is_watched: bool = False) -> None:
        self.around = Surroundings(options, shards=2)
        if is_watched:
            self.around.context.observers = watched(self.around.context.observers)
        self.journal = Recorder()
        self.around.store.log = self.around.context.journal = self.journal  # type: ignore[assignment]
        self.around.renew_requests()
        if not is_compiled:
            self.around.context.requests = None
        self.text, self.binary = Conversation(self.around), BinaryConversation(self.around)
        self.other = Conversation(self.around)
        self.line = LineTalk(self.around)

    def take(self, step: Step) -> object:
        """Do one step of a script, and return the reply."""
        kind, what = step
        if kind == "text":
            assert isinstance(what, bytes)
            return self.text.feed(what) if what else b""
        if kind == "binary":
            assert isinstance(what, bytes)
            return self.binary.feed(what)
        if kind == "line":
            assert isinstance(what, bytes)
            return self.line.feed(what)
        if kind == "other":
            assert isinstance(what, bytes)
            return self.other.feed(what)
        if kind == "seconds":
            assert isinstance(what, int)
            self.around.clock.advance(what)
            self.around.store.new_second()
        elif kind == "refuses":
            self.journal.refuses = bool(what)
        elif kind == "verbosity":
            assert isinstance(what, int)
            self.around.context.observers.set_verbosity(what)
        return None

    def state(self) -> tuple[object, ...]:
        """All that requests may change."""
        return (
            described(self.around.store),
            self.around.counts(),
            self.journal.records,
            self.journal.refusals,
            b"".join(self.around.context.observers.prefixes.dump()),
            self.around.context.observers.active,
            self.around.context.observers.watchers.dropped,
        )


class Spent(Budget):
    """A budget that never has time for a line."""

    def begin_turn(self) -> bool:
        return False

    def end_turn(self) -> bool:
        return False

    def has_time_after_line(self) -> bool:
        return False


def watched(observers: Observers) -> Observers:
    """Observers like these, with a watcher of all requests, and without any time for lines."""
    closed = Observers(observers.log, observers.prefixes, observers.watchers, Spent())
    assert closed.watchers.add(REQUEST_STREAMS, lambda: None)
    closed.begin_turn()
    assert closed.active
    assert not closed.takes_lines
    return closed


def described(store: ItemStore) -> list[object]:
    """The content of a store, its counts, and what has been read."""
    return [
        (
            [(key, type(entry), wire_bytes_of(entry), deadline_of(entry), cas_of(entry), state_of(entry))
             for key, entry in shard.table.items()],
            shard.used_bytes, shard.expiring, shard.total_items, shard.get_expired, shard.evictions,
            shard.order.marks, shard.order.ghosts, list(shard.order.small), list(shard.order.main),
        )
        for shard in store.shards
    ]  # fmt: skip


NUMBERS = all_spelled(0, 1, 7, 99, 2**32, 2**64 - 1)
STORED_NUMBERS = st.sampled_from([b"0", b"9", b"10", b"099", b"99999999999999999999", b"18446744073709551615", b" 5"])
CHANGES = st.one_of(
    st.builds(b"%b %b %b%b".__mod__, st.tuples(
        st.sampled_from([b"incr", b"decr", b"touch"]), KEYS, NUMBERS, st.sampled_from([b"", b"", b" noreply", b" x"])
    )),
    st.builds(b"delete %b%b".__mod__, st.tuples(
        KEYS | st.just(b"noreply"), st.sampled_from([b"", b" noreply", b" 0", b" "])
    )),
    st.builds(b"%b %b%b".__mod__, st.tuples(
        st.sampled_from([b"md", b"ma", b"mg"]), KEYS,
        st.lists(st.sampled_from([b" q", b" v", b" k", b" O9", b" D5", b" x", b" I", b" c", b" t", b" T9"]), max_size=3)
        .map(b"".join),
    )),
    st.builds(b"gets %b %b".__mod__, st.tuples(KEYS, KEYS)),
    st.builds(b"gets %b".__mod__, KEYS),
    st.builds(b"set %b 3 0 %d\r\n%b".__mod__, st.builds(lambda key, number: (key, len(number), number), KEYS,
                                                        STORED_NUMBERS)),
    st.sampled_from([b"flush_all", b"stats detail on", b"stats detail off", b"touch a 100", b"incr a 1", b"add d 0 0 1",
                     b"me a", b"mg a l", b"flush_all 1", b"verbosity 1"]),
)  # fmt: skip
LINES = st.builds(lambda line, end: line + end, CHANGES, line_ends)


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    opcode = draw(st.sampled_from([
        Opcode.GET, Opcode.GETQ, Opcode.GETK, Opcode.GETKQ, Opcode.SET, Opcode.SETQ, Opcode.DELETE, Opcode.DELETEQ,
        Opcode.NOOP, Opcode.ADD, Opcode.INCREMENT, Opcode.TOUCH, Opcode.GAT,
    ]))  # fmt: skip
    key = draw(KEYS | st.sampled_from([b"a b", b"", b"a\n"])) if opcode != Opcode.NOOP else b""
    value, extras = b"", b""
    if opcode in (Opcode.SET, Opcode.SETQ, Opcode.ADD):
        value = draw(st.binary(max_size=9) | st.sampled_from([b"y" * 4074, b"y" * 4077, b"y" * 4096, b"z" * 20_000]))
        numbers = st.sampled_from([0, 1, 255, 2**32 - 1, 100, 2592001])
        extras = pack_numbers("!II", draw(numbers), draw(numbers))
    elif opcode == Opcode.INCREMENT:
        extras = pack_numbers("!QQI", 1, 5, 0)
    elif opcode in (Opcode.TOUCH, Opcode.GAT):
        extras = pack_numbers("!I", 100)
    strange = draw(st.sampled_from([{}] * 12 + [{"extras_bytes": 4}, {"body_bytes": 3}, {"key_bytes": 251}]))
    return Packet(opcode, key, extras, value, draw(st.sampled_from([0, 0, 0, 1])), **strange).to_bytes()


def pieces_of(requests: list[bytes], cut: int) -> list[bytes]:
    data = b"".join(requests)
    return [data[:cut], data[cut:]]


STREAMS = st.builds(pieces_of, st.lists(REQUESTS | LINES, max_size=8), st.integers(1, 400))
PACKETS = st.builds(pieces_of, st.lists(packets(), max_size=6), st.integers(1, 200))
STEPS: st.SearchStrategy[list[Step]] = st.one_of(
    STREAMS.map(lambda pieces: [("text", piece) for piece in pieces]),
    STREAMS.map(lambda pieces: [("text", piece) for piece in pieces]),
    PACKETS.map(lambda pieces: [("binary", piece) for piece in pieces]),
    st.sampled_from([
        [("seconds", 1)], [("seconds", 120)], [("refuses", True)], [("refuses", False)], [("verbosity", 2)],
        [("verbosity", 0)], [("other", b"stats detail on\r\n")], [("other", b"stats detail off\r\n")],
        [("other", b"flush_all\r\n")],
    ]),
)  # fmt: skip
START: list[Step] = [
    ("text", b"set a 0 0 1\r\n1\r\nset b 0 0 3\r\nbbb\r\nset v 0 0 1\r\nv\r\nset flagged 9 0 4\r\nfour\r\n"),
    ("text", b"set brief 0 500 5\r\nshort\r\nset named 0 0 1\r\nn\r\ngets named\r\nset c 0 1 1\r\n7\r\n"),
    ("text", b"set big 0 0 9000\r\n%b\r\n" % (b"B" * 9000)),
    ("binary", Packet(Opcode.SET, b"b", pack_numbers("!II", 7, 0), b"12").to_bytes()),
    ("binary", Packet(Opcode.SET, b"c", pack_numbers("!II", 7, 60), b"12").to_bytes()),
    ("seconds", 1),
]


def compare(make: Callable[[bool], Side], steps: list[Step]) -> None:
    compiled, interpreted = make(True), make(False)
    for step in START + steps:
        assert compiled.take(step) == interpreted.take(step), step
        assert compiled.state() == interpreted.state(), step


scripts: st.SearchStrategy[list[Step]] = st.lists(STEPS, max_size=8).map(lambda lists: list(chain.from_iterable(lists)))
slowly = settings(max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))


@slowly
@given(scripts)
def test_any_requests_do_the_same(steps: list[Step]) -> None:
    compare(Side, steps)


@slowly
@given(scripts, st.sampled_from([1, 2, 3]))
def test_short_turns_do_the_same(steps: list[Step], requests: int) -> None:
    compare(lambda is_compiled: Side(is_compiled, Settings(max_reqs_per_event=requests)), steps)


LARGE_SETS: st.SearchStrategy[Step] = st.builds(
    lambda key, exptime, size, end: ("text", b"set %b 3 %d %d%b\r\n%b\r\n" % (key, exptime, size, end, b"L" * size)),
    st.sampled_from([b"a", b"brief", b"big", b"named", b"new"]), st.sampled_from([0, 60]),
    st.sampled_from([1, 4076, 4077, 4078, 4079, 4080, 5000, 9000]), st.sampled_from([b"", b" noreply"]),
)  # fmt: skip
OTHER_STEPS: st.SearchStrategy[Step] = st.sampled_from([
    ("text", b"get a brief big named new\r\n"), ("text", b"mg a v t h l\r\n"), ("text", b"mg big s h\r\n"),
    ("text", b"gets a\r\n"), ("text", b"delete big\r\n"), ("text", b"touch new 5\r\n"), ("text", b"incr a 1\r\n"),
    ("seconds", 1), ("seconds", 120), ("refuses", True), ("refuses", False), ("other", b"flush_all\r\n"),
    ("other", b"stats detail on\r\n"),
])  # fmt: skip


@slowly
@given(st.lists(LARGE_SETS | OTHER_STEPS, max_size=20))
def test_large_values_do_the_same(steps: list[Step]) -> None:
    compare(Side, steps)


def test_a_large_value_is_stored_without_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    side = Side(True)
    requests = side.around.context.requests
    assert requests is not None

    def fail(self: ItemStore, key: bytes, entry: Entry) -> None:
        raise AssertionError("the store was called")

    monkeypatch.setattr(ItemStore, "put", fail)
    for exptime in (0, 60, 0):
        line = b"set big 0 %d 9000\r\n%b\r\n" % (exptime, b"x" * 9000)
        assert requests.run_text(side.text.protocol, line, 0, 9) == (len(line), 1)


@slowly
@given(scripts)
def test_while_watchers_must_wait_the_same_is_counted(steps: list[Step]) -> None:
    compare(lambda is_compiled: Side(is_compiled, is_watched=True), steps)


def test_requests_that_are_observed_are_compiled() -> None:
    side = Side(True, is_watched=True)
    side.take(("other", b"stats detail on\r\n"))
    side.around.context.observers.begin_turn()
    requests = side.around.context.requests
    assert requests is not None
    for data in (b"set a:1 0 0 1\r\nx\r\n", b"get a:1 b:2\r\n", b"mg a:1 v\r\n", b"ms a:1 1\r\nx\r\n"):
        assert requests.run_text(side.text.protocol, data, 0, 9) == (len(data), 1)
    get = Packet(Opcode.GET, b"a:1").to_bytes()
    assert requests.run_binary(side.binary.protocol, get, 0, 9) == (0, 0)  # it has no CAS id yet
    assert b"".join(side.around.context.observers.prefixes.dump()) == (
        b"PREFIX a get 2 hit 2 set 2 del 0\r\nPREFIX b get 1 hit 0 set 0 del 0\r\nEND\r\n"
    )


def test_a_space_at_the_end_of_a_line_leaves_it_compiled() -> None:
    side = Side(True)
    requests = side.around.context.requests
    assert requests is not None
    for data in (
        b"set a 0 0 1 \r\n1\r\n",
        b"get a \r\n",
        b"get a b \r\n",
        b"mg a v \r\n",
        b"incr a 1 \r\n",
        b"delete a \r\n",
    ):
        assert requests.run_text(side.text.protocol, data, 0, 9) == (len(data), 1)
    for data in (b"get \r\n", b"get  \r\n", b"get a  \r\n", b"mn \r\n"):
        assert requests.run_text(side.text.protocol, data, 0, 9) == (0, 0)


@slowly
@given(scripts, st.sampled_from([
    Settings(disable_cas=True), Settings(disable_evictions=True), Settings(max_item_size=10_000),

]))  # fmt: skip
def test_any_settings_do_the_same(steps: list[Step], options: Settings) -> None:
    compare(lambda is_compiled: Side(is_compiled, options), steps)


@settings(max_examples=MANY // 3, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from([b"set", b"large", b"get", b"ms", b"mg", b"incr"]), st.integers(0, 400)),
                min_size=200, max_size=900), st.sampled_from([1, 7, 100]))  # fmt: skip
def test_evictions_are_the_same(requests: list[tuple[bytes, int]], at_once: int) -> None:
    forms = {
        b"set": b"set key%d 0 0 1000\r\n" + b"v" * 1000 + b"\r\n",
        b"large": b"set key%d 0 50 5000\r\n" + b"v" * 5000 + b"\r\n",
        b"ms": b"ms key%d 1000 T100\r\n" + b"v" * 1000 + b"\r\n",
        b"get": b"get key%d\r\n",
        b"mg": b"mg key%d v\r\n",
        b"incr": b"incr key%d 1\r\n",
    }
    compiled, interpreted = (Side(each, Settings(memory_limit=1 << 18, max_item_size=8192)) for each in (True, False))
    for start in range(0, len(requests), at_once):
        step = ("text", b"".join([forms[command] % number for command, number in requests[start : start + at_once]]))
        assert compiled.take(step) == interpreted.take(step)
    assert compiled.state() == interpreted.state()


def test_a_real_journal_gets_the_same(tmp_path: Path) -> None:
    positions, written = [], []
    for name in ("compiled", "interpreted"):
        side = Side(name == "compiled")
        (tmp_path / name).mkdir()
        journal = Journal(JournalDirectory(tmp_path / name), Fsync.EVERYSEC, now=1_700_000_000)
        side.around.store.log = side.around.context.journal = journal
        if name == "compiled":
            side.around.renew_requests()
        for step in START:
            side.take(step)
        for line in (
            b"set x 5 60 2 noreply\r\nhi\r\nincr a 4\r\ndelete b\r\n",
            b"set large 1 0 6000\r\n%b\r\nset large 1 50 5000\r\n%b\r\n" % (b"x" * 6000, b"y" * 5000),
            b"touch v 9\r\nms y 1 T5\r\ny\r\nmd a\r\n",
        ):
            side.take(("text", line))
            side.take(("seconds", 1))
        positions.append(journal.position)
        journal.close()
        [path] = [path for path in (tmp_path / name).rglob("*") if path.is_file() and path.stat().st_size > 500]
        _, *lines = path.read_bytes().splitlines(keepends=True)  # each journal has an id of its own
        written.append(rechained_lines(b"".join(lines), 0)[0].splitlines())
    assert positions[0] == positions[1]
    assert written[0] == written[1]


# Through sockets


def talk(serving: Serving, data: bytes, size: int, dialect: Dialect | None = None) -> bytes | None:
    """Send requests in pieces of this size, and no more; return all replies. dialect: as for `Serving.connect`.

    Returns None if the server closed the connection before it had read all, as replies may be lost then.
    """
    client = serving.connect(dialect)

    def send() -> None:
        with suppress(OSError):  # an invalid request has closed the connection
            for start in range(0, len(data), size):
                client.sendall(data[start : start + size])
            client.shutdown(socket.SHUT_WR)

    sender = Thread(target=send)
    sender.start()
    replies = bytearray()
    is_whole = False
    with suppress(ConnectionResetError):
        while part := client.recv(1 << 16):
            replies += part
        is_whole = True
    sender.join()
    return bytes(replies) if is_whole else None


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(REQUESTS | LINES, max_size=12), st.sampled_from([1 << 20, 30, 300]))
def test_what_comes_through_a_socket_is_answered_the_same(requests: list[bytes], size: int) -> None:
    # A long line closes the connection if its end arrives later, which depends on time.
    assume(max(map(len, b"".join(requests).split(b"\n"))) < LINE_LIMIT_BYTES)
    start = b"".join([what for kind, what in START if kind == "text" and isinstance(what, bytes)])
    answers = []
    for is_interpreted in (False, True):
        serving = Serving(is_interpreted=is_interpreted, clock=FakeClock())
        try:
            replies = [talk(serving, start, 1 << 20)]
            replies.append(talk(serving, b"".join(requests) + b"\r\nmn\r\n", size))
        finally:
            serving.close()
        depend_on_time = {"longest_turn_us": 0, "slow_turns": 0}
        depend_on_time["bytes_read"] = 0  # what follows an error may be read or not
        counts = serving.around.counts() | depend_on_time
        answers.append((replies, sorted(counts.items())))
    if all(None not in replies for replies, _ in answers):
        assert answers[0] == answers[1]


def test_bytes_are_counted_the_same() -> None:
    counted = []
    for is_interpreted in (False, True):
        serving = Serving(is_interpreted=is_interpreted)
        talk(serving, b"set a 0 0 1\r\nx\r\nget a b\r\nmg a v\r\ndelete a\r\nversion\r\nget a\r\n", 10)
        serving.close()
        counts = serving.around.counts()
        counted.append((counts["bytes_read"], counts["bytes_written"]))
    assert counted[0] == counted[1]
