"""The model: real clients get on with it, on our server and on memcached, and planted faults of clients are found."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from memcache_kv.testing import Memcached
from memcache_kv.testing.adapter import ClientAdapter, FoundItem
from memcache_kv.testing.faults import fault
from memcache_kv.testing.model import MemcachedModel, Ttl
from memcache_kv.testing.time_travel import TimeTravel
from memcache_kv.testing.wire import Tap
from tests.integration.client_library import require
from tests.integration.wire import MEMCACHED, OURS, RunningServer, ServerUnavailable, server_command
from tests.testing.client_adapters import Address, Client, MemcacheError, PymemcacheAdapter, WithFlags
from tests.testing.client_models import MODELS, ClientModel

IN_PASSING = settings(max_examples=4, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
IN_DEPTH = settings(IN_PASSING, max_examples=20, stateful_step_count=40)
SEARCH = settings(
    IN_PASSING, max_examples=1000, phases=[Phase.generate], database=None, report_multiple_bugs=False, derandomize=True
)
"""Until the first failure, which is not made shorter."""


class MovedServer(NamedTuple):
    """A server whose time stands still, but for `travel`."""

    address: Address
    time: TimeTravel


@pytest.fixture(scope="module")
def moved() -> Iterator[MovedServer]:
    """A server whose time a test moves."""
    time = TimeTravel()
    time.freeze()
    with time.server() as server:
        yield MovedServer(server.address, time)


def model_on(server: MovedServer, base: type[ClientModel]) -> type[ClientModel]:
    """A client's model on a server whose clock stands still."""

    class Moved(base):  # type: ignore[misc, valid-type]
        address = server.address
        slack_seconds = 0

        def travel(self, seconds: int) -> None:
            server.time.travel(seconds)

        def now(self) -> float:
            return server.time.now()

    return Moved


def require_server(kind: str) -> None:
    """Skip where there is no such server; fail in CI."""
    try:
        server_command(kind)
    except ServerUnavailable as reason:
        if os.environ.get("CI"):
            pytest.fail(str(reason))
        pytest.skip(str(reason))


def require_client(base: type[ClientModel]) -> None:
    """Skip where there is no such client."""
    require(base.module, last_python=(3, 11) if base.module == "pylibmc" else None)


@pytest.mark.parametrize("base", MODELS)
def test_a_real_client_gets_on_with_the_model(moved: MovedServer, base: type[ClientModel]) -> None:
    require_client(base)
    run_state_machine_as_test(model_on(moved, base), settings=IN_PASSING)


@pytest.mark.long
@pytest.mark.parametrize("base", MODELS)
def test_a_real_client_gets_on_with_the_model_for_long(moved: MovedServer, base: type[ClientModel]) -> None:
    require_client(base)
    run_state_machine_as_test(model_on(moved, base), settings=IN_DEPTH)


@pytest.mark.long
@pytest.mark.parametrize("kind", [OURS, MEMCACHED])
@pytest.mark.parametrize("base", MODELS)
def test_a_real_client_gets_on_with_the_model_on_a_process(kind: str, base: type[ClientModel]) -> None:
    require_client(base)
    require_server(kind)
    with contextlib.closing(RunningServer(kind)) as server:
        on_it = type("OnIt", (base,), {"address": (server.host, server.port)})
        run_state_machine_as_test(on_it, settings=IN_DEPTH)


# Requests without a reply


class AnswersLate(ClientAdapter):
    """A client and its server, which carries out quiet requests with the next one that has a reply."""

    def __init__(self, items: dict[bytes, FoundItem], unread: dict[bytes, FoundItem]) -> None:
        self._items, self._unread, self._is_quiet = items, unread, False

    def quiet(self) -> Self:
        made = type(self)(self._items, self._unread)
        made._is_quiet = True
        return made

    def carry_out(self) -> None:
        self._items.update(self._unread)
        self._unread.clear()

    def get(self, key: bytes) -> FoundItem | None:
        self.carry_out()
        return self._items.get(key)

    def set(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        self._unread[key] = FoundItem(value)
        if not self._is_quiet:
            self.carry_out()
        return True

    def close(self) -> None:
        """Leave what is unread to the next example, as a server may read it when the next connection is there."""


def test_nothing_of_an_example_is_carried_out_in_the_next_one() -> None:
    items, unread = dict[bytes, FoundItem](), dict[bytes, FoundItem]()

    class Late(MemcachedModel):
        keys = st.just(b"key")

        def connect(self) -> ClientAdapter:
            return AnswersLate(items, unread)

        def empty(self, client: ClientAdapter) -> None:
            items.clear()

        def ttls(self) -> st.SearchStrategy[Ttl]:
            return st.just(0)

    run_state_machine_as_test(Late, settings=settings(IN_PASSING, max_examples=50, derandomize=True))


# Planted faults: each is a client that does one thing wrong


class LosesCas(PymemcacheAdapter):
    """Stores whatever the token."""

    def cas(self, key: bytes, value: bytes, cas: object, flags: int, ttl: int) -> bool | None:
        return self.replace(key, value, flags, ttl) or None


class KeepsTokens(PymemcacheAdapter):
    """Gives the first token of a key again."""

    def __init__(self, client: Any, noreply: bool = False) -> None:
        super().__init__(client, noreply)
        self._first: dict[bytes, object] = {}

    def gets(self, key: bytes) -> FoundItem | None:
        found = super().gets(key)
        return found and found._replace(cas=self._first.setdefault(key, found.cas))


class Flags16(PymemcacheAdapter):
    """Reads 16 bits of the flags."""

    def get(self, key: bytes) -> FoundItem | None:
        found = super().get(key)
        return found and found._replace(flags=(found.flags or 0) & 0xFFFF)


class AppendLosesFlags(PymemcacheAdapter):
    """Appends by get and set."""

    def append(self, key: bytes, value: bytes) -> bool:
        found = self.get(key)
        return found is not None and self.set(key, found.value + value, 0, 0)


class IncrByOneMore(PymemcacheAdapter):
    """Adds one too many."""

    def incr(self, key: bytes, delta: int) -> int | None:
        return super().incr(key, min(delta + 1, 2**64 - 1))


class IncrIsSigned(PymemcacheAdapter):
    """Takes a sum for a signed number."""

    def incr(self, key: bytes, delta: int) -> int | None:
        number = super().incr(key, delta)
        return number if number is None or number < 2**63 else number - 2**64


class DecrIsIncr(PymemcacheAdapter):
    """Adds the complement, which wraps where it should stop at 0."""

    def decr(self, key: bytes, delta: int) -> int | None:
        return super().incr(key, -delta % 2**64)


class AddOverwrites(PymemcacheAdapter):
    """Stores in any case."""

    def add(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        return self.set(key, value, flags, ttl)


class PrependAppends(PymemcacheAdapter):
    """Puts bytes on the wrong side."""

    def prepend(self, key: bytes, value: bytes) -> bool:
        return self.append(key, value)


class TouchForgetsTheTtl(PymemcacheAdapter):
    """Makes whatever it touches last."""

    def touch(self, key: bytes, ttl: int) -> bool:
        return super().touch(key, 0)


class TtlInMilliseconds(PymemcacheAdapter):
    """Takes the ttl for milliseconds."""

    def set(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        return super().set(key, value, flags, -(-ttl // 1000))


class LongTtlIsRelative(PymemcacheAdapter):
    """Takes a unix time for a span, as it stops at 30 days."""

    def set(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        return super().set(key, value, flags, min(ttl, 30 * 24 * 3600))


class GetManyLosesOne(PymemcacheAdapter):
    """Drops one value of several."""

    def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, FoundItem]:
        found = list(super().get_many(keys).items())
        return dict(found[:1] + found[2:])


class EmptyIsMissing(PymemcacheAdapter):
    """Takes an empty value for none."""

    def get(self, key: bytes) -> FoundItem | None:
        found = super().get(key)
        return found if found and found.value else None


class CutsAtLineEnd(PymemcacheAdapter):
    """Ends a value at a line end within it."""

    def get(self, key: bytes) -> FoundItem | None:
        found = super().get(key)
        return found and found._replace(value=found.value.split(b"\r\n")[0])


class NoreplyIsNotSent(PymemcacheAdapter):
    """Drops a delete that asks for no reply."""

    def delete(self, key: bytes) -> bool:
        return self.noreply or super().delete(key)


class KeysAreCut(PymemcacheAdapter):
    """Uses 249 bytes of a key."""

    def get(self, key: bytes) -> FoundItem | None:
        return super().get(key[:249])

    def set(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        return super().set(key[:249], value, flags, ttl)


class AcceptsLongKeys(PymemcacheAdapter):
    """Cuts keys that it has to refuse."""

    def get(self, key: bytes) -> FoundItem | None:
        return super().get(key[:250])


FAULTY: list[type[PymemcacheAdapter]] = [
    LosesCas, Flags16, AppendLosesFlags, IncrByOneMore, PrependAppends, TtlInMilliseconds, LongTtlIsRelative,
    GetManyLosesOne, EmptyIsMissing, CutsAtLineEnd, KeysAreCut, AcceptsLongKeys,
]  # fmt: skip
HARDER_TO_FIND: list[type[PymemcacheAdapter]] = [
    KeepsTokens, IncrIsSigned, DecrIsIncr, AddOverwrites, TouchForgetsTheTtl, NoreplyIsNotSent,
]  # fmt: skip
LONG = [pytest.param(faulty, marks=pytest.mark.long) for faulty in HARDER_TO_FIND]


@pytest.mark.parametrize("faulty", [*FAULTY, *LONG])
def test_a_planted_fault_is_found(moved: MovedServer, faulty: type[PymemcacheAdapter]) -> None:
    class Faulty(ClientModel):
        address = moved.address

        def connect(self) -> ClientAdapter:
            return faulty(Client(self.address, serde=WithFlags(), no_delay=True))

    with pytest.raises(AssertionError, match="the client"):
        run_state_machine_as_test(model_on(moved, Faulty), settings=SEARCH)


class KeepsItsConnection(Client):  # type: ignore[misc]
    """Goes on after a time-out, on the connection on which the late answer comes."""

    is_done = False

    def close(self) -> None:
        if self.is_done:
            super().close()


class StaleReplies(PymemcacheAdapter):
    """Takes the late answer for that of the next request."""

    def close(self) -> None:
        self.client.is_done = True
        super().close()


def stalling_model(moved: MovedServer, tap: Tap, adapter: type[PymemcacheAdapter], client: Any) -> type[ClientModel]:
    """A model whose client times out while the tap holds answers back."""

    class Stalling(ClientModel):
        def connect(self) -> ClientAdapter:
            self.tapped = client(tap.address, serde=WithFlags(), no_delay=True)
            return adapter(self.tapped)

        @contextlib.contextmanager
        def stalled(self) -> Iterator[None]:
            self.tapped.get(b"connected")
            self.tapped.sock.settimeout(0.01)
            with fault(tap, "stall"):
                yield
            if self.tapped.sock is not None:
                self.tapped.sock.settimeout(None)

    return model_on(moved, Stalling)


@pytest.fixture
def tap_before(moved: MovedServer) -> Iterator[Tap]:
    """A tap before that server."""
    with Tap(moved.address) as tap:
        yield tap


def test_a_client_that_gives_up_a_connection_after_a_time_out_gets_on(moved: MovedServer, tap_before: Tap) -> None:
    run_state_machine_as_test(stalling_model(moved, tap_before, PymemcacheAdapter, Client), settings=IN_PASSING)


def test_a_late_answer_taken_for_that_of_the_next_request_is_found(moved: MovedServer, tap_before: Tap) -> None:
    model = stalling_model(moved, tap_before, StaleReplies, KeepsItsConnection)
    with pytest.raises((AssertionError, MemcacheError, ValueError)):  # the client may fail to read the late answer, too
        run_state_machine_as_test(model, settings=SEARCH)


# The plugin's fixture


def test_the_model_moves_the_time_of_the_fixture(memcached: Memcached) -> None:
    memcached.freeze()
    travelled: list[int] = []

    class OnTheFixture(MemcachedModel):
        slack_seconds = 0

        def connect(self) -> ClientAdapter:
            return PymemcacheAdapter(Client(memcached.address, serde=WithFlags(), no_delay=True))

        def travel(self, seconds: int) -> None:
            memcached.travel(seconds)
            travelled.append(seconds)

    run_state_machine_as_test(OnTheFixture, settings=settings(IN_PASSING, max_examples=10, derandomize=True))
    assert travelled


# What an adapter lacks


class GetAndSet(ClientAdapter):
    """The least that an adapter has."""

    def __init__(self, inner: ClientAdapter, asked: set[str]) -> None:
        self._inner, self._asked = inner, asked

    def get(self, key: bytes) -> FoundItem | None:
        self._asked.add("get")
        return self._inner.get(key)

    def set(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        self._asked.add("set")
        assert flags == 0
        return self._inner.set(key, value, flags, ttl)


def test_commands_that_a_client_lacks_are_left_out(moved: MovedServer) -> None:
    asked: set[str] = set()

    class Least(ClientModel):
        def connect(self) -> ClientAdapter:
            self.real = Client(self.address, serde=WithFlags(), no_delay=True)
            return GetAndSet(PymemcacheAdapter(self.real), asked)

        def empty(self, client: ClientAdapter) -> None:
            self.real.flush_all()

        def teardown(self) -> None:
            self.real.close()

    run_state_machine_as_test(model_on(moved, Least), settings=IN_PASSING)
    assert asked == {"get", "set"}


def test_a_model_without_a_client_says_what_to_override() -> None:
    with pytest.raises(NotImplementedError, match="overrides connect"):
        run_state_machine_as_test(MemcachedModel, settings=IN_PASSING)


@pytest.mark.long
def test_a_report_has_no_more_steps_than_show_the_fault(moved: MovedServer) -> None:
    class Faulty(ClientModel):
        def connect(self) -> ClientAdapter:
            return PrependAppends(Client(self.address, serde=WithFlags(), no_delay=True))

    shortest = settings(SEARCH, phases=[Phase.generate, Phase.shrink], stateful_step_count=8)
    with pytest.raises(AssertionError) as caught:
        run_state_machine_as_test(model_on(moved, Faulty), settings=shortest)
    report = "\n".join(caught.value.__notes__)
    steps = [line for line in report.splitlines() if line.startswith("state.")]
    assert len(steps) <= 4, report
    assert "prepend" in steps[-2]
