"""The model: real clients get on with it, on our server and on memcached, and planted faults of clients are found."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from memcache_kv.testing.adapter import ClientAdapter, Found
from tests.integration.client_library import require
from tests.integration.wire import MEMCACHED, RunningServer
from tests.testing.client_adapters import Client, PymemcacheAdapter, WithFlags
from tests.testing.client_models import MODELS, ClientModel
from tests.testing.moved_server import MovedServer

IN_PASSING = settings(max_examples=8, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
IN_DEPTH = settings(IN_PASSING, max_examples=60, stateful_step_count=40)
SEARCH = settings(IN_PASSING, max_examples=1000, phases=[Phase.generate], database=None, report_multiple_bugs=False)
"""Until the first failure, which is not made shorter."""


@pytest.fixture(scope="module")
def moved() -> Iterator[MovedServer]:
    """A server whose time a test moves."""
    with MovedServer() as server:
        yield server


def model_on(server: MovedServer, base: type[ClientModel]) -> type[ClientModel]:
    """A client's model on a server whose clock stands still."""

    class Moved(base):  # type: ignore[misc, valid-type]
        address = server.address
        slack_seconds = 0

        def travel(self, seconds: int) -> None:
            server.travel(seconds)

        def now(self) -> float:
            return server.now()

    return Moved


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


@pytest.fixture(scope="module")
def peer() -> Iterator[RunningServer]:
    """The real memcached."""
    with contextlib.closing(RunningServer(MEMCACHED)) as server:
        yield server


@pytest.mark.long
@pytest.mark.parametrize("base", MODELS)
def test_a_real_client_gets_on_with_the_model_on_memcached(kind: str, base: type[ClientModel]) -> None:
    require_client(base)
    with contextlib.closing(RunningServer(kind)) as server:
        on_it = type("OnIt", (base,), {"address": (server.host, server.port)})
        run_state_machine_as_test(on_it, settings=IN_DEPTH)


# Planted faults: each is a client that does one thing wrong


class LosesCas(PymemcacheAdapter):
    """Stores whatever the token."""

    def cas(self, key: bytes, value: bytes, cas: object, flags: int, ttl: int) -> bool | None:
        return self.replace(key, value, flags, ttl) or None


class CasIsNotUnique(PymemcacheAdapter):
    """Makes the token of the value, so that a value that was changed and changed back has the old one."""

    def gets(self, key: bytes) -> Found | None:
        found = super().gets(key)
        return found and found._replace(cas=found.value)


class Flags16(PymemcacheAdapter):
    """Reads 16 bits of the flags."""

    def get(self, key: bytes) -> Found | None:
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

    def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, Found]:
        return dict(list(super().get_many(keys).items())[:2])


class EmptyIsMissing(PymemcacheAdapter):
    """Takes an empty value for none."""

    def get(self, key: bytes) -> Found | None:
        found = super().get(key)
        return found if found and found.value else None


class CutsAtLineEnd(PymemcacheAdapter):
    """Ends a value at a line end within it."""

    def get(self, key: bytes) -> Found | None:
        found = super().get(key)
        return found and found._replace(value=found.value.split(b"\r\n")[0])


class NoreplyIsNotSent(PymemcacheAdapter):
    """Drops a delete that asks for no reply."""

    def delete(self, key: bytes) -> bool:
        return self._noreply or super().delete(key)


class KeysAreCut(PymemcacheAdapter):
    """Uses 249 bytes of a key."""

    def get(self, key: bytes) -> Found | None:
        return super().get(key[:249])

    def set(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        return super().set(key[:249], value, flags, ttl)


class AcceptsLongKeys(PymemcacheAdapter):
    """Cuts keys that it has to refuse."""

    def get(self, key: bytes) -> Found | None:
        return super().get(key[:250])


FAULTY: list[type[PymemcacheAdapter]] = [
    LosesCas, CasIsNotUnique, Flags16, AppendLosesFlags, IncrByOneMore, IncrIsSigned, DecrIsIncr, AddOverwrites,
    PrependAppends, TouchForgetsTheTtl, TtlInMilliseconds, LongTtlIsRelative, GetManyLosesOne, EmptyIsMissing,
    CutsAtLineEnd, NoreplyIsNotSent, KeysAreCut, AcceptsLongKeys,
]  # fmt: skip


@pytest.mark.parametrize("faulty", FAULTY)
def test_a_planted_fault_is_found(moved: MovedServer, faulty: type[PymemcacheAdapter]) -> None:
    class Faulty(ClientModel):
        address = moved.address

        def connect(self) -> ClientAdapter:
            return faulty(Client(self.address, serde=WithFlags(), no_delay=True))

    with pytest.raises(AssertionError, match="the client"):
        run_state_machine_as_test(model_on(moved, Faulty), settings=SEARCH)
