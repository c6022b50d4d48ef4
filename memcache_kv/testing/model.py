"""A hypothesis state machine that checks a client against a server; the extra `testing-hypothesis` is for it.

It makes up sequences of commands, carries them out through the client, and compares every answer with what a plain
Python cache would say. A difference is reported as the shortest sequence that shows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

from hypothesis import assume, reject
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, multiple, precondition, rule
from hypothesis.strategies import SearchStrategy

from memcache_kv.testing import strategies
from memcache_kv.testing.adapter import ClientAdapter, FoundItem, offers
from memcache_kv.testing.plain_cache import NotANumber, PlainCache, PlainItem, is_clear
from memcache_kv.unpatched import time

T = TypeVar("T")

MOST_KEYS = 3
"""A few keys, so that commands meet the items of earlier ones."""
LONGEST_STEP = 3600
"""How far time is moved at once, in seconds: what expires later is never waited for."""
TTL_WITHOUT_TRAVEL = 10_000
"""The shortest relative ttl where time can't be moved: no example runs that long."""


HOOKS = ("travel", "now", "stalled")
"""What a derived model may override so that more is tried."""


class UnixTime(NamedTuple):
    """A ttl that is a unix time, this many seconds away: what it is, is known when it is sent."""

    away: int


Ttl = int | UnixTime


class SeenToken(NamedTuple):
    """A token that the client was given for `cas`, and the version of the plain item that it stands for."""

    key: bytes
    cas: object
    version: int


def _from(choose: Callable[[MemcachedModel], SearchStrategy[T]]) -> SearchStrategy[T]:
    """Make a strategy that depends on the model that runs."""
    return st.runner().flatmap(choose)


KEY = _from(lambda model: st.sampled_from(model.pool))
VALUE = _from(lambda model: model.values)
FLAGS = _from(lambda model: strategies.flags(model.client.largest_flags))
TTL = _from(lambda model: model.ttls())
QUIET = _from(lambda model: st.booleans() if model.offers("quiet") else st.just(False))
DELTA = _from(lambda model: model.deltas)
DELAY = _from(
    lambda model: (
        st.just(0) | st.integers(3, 10) if model.offers("flush_all_later") and model.offers("travel") else st.just(0)
    )
)
ITEMS = _from(lambda model: st.dictionaries(model.keys, st.none() | model.values, min_size=1, max_size=MOST_KEYS))
START = st.none() | strategies.counters()
SEVERAL = st.lists(KEY, min_size=1, max_size=MOST_KEYS, unique=True)


def _get(key: bytes, client: ClientAdapter) -> FoundItem | None:
    return client.get(key)


def needs(*names: str) -> Callable[[Any], Any]:
    """Leave a rule out where the client lacks one of these commands."""
    return precondition(lambda model: all(model.offers(name) for name in names))


class MemcachedModel(RuleBasedStateMachine):
    """Run a client against a server, and compare its answers with those of a plain Python cache.

    Derive a class that overrides `connect`, and what else is needed of the attributes and methods before the rules.
    Give it to `hypothesis.stateful.run_state_machine_as_test`, or let pytest collect its `TestCase`. A wrong answer
    raises AssertionError. Runs in the calling thread, and blocks until all examples are through. Nobody else may use
    the server meanwhile.
    """

    keys: SearchStrategy[bytes] = strategies.keys()
    """The keys that the client accepts."""
    invalid_keys: SearchStrategy[bytes] = strategies.invalid_keys()
    """The keys that the client has to refuse with one of the adapter's `refusals`; `nothing()` leaves them out."""
    values: SearchStrategy[bytes] = strategies.values()
    deltas: SearchStrategy[int] = strategies.deltas()
    """The amounts that the client accepts for `incr` and `decr`."""
    negative_ttls: bool = True
    """Whether the client can send a ttl below 0."""
    slack_seconds: float = 2.0
    """How far apart the server's clock and `now` may be: the model asks for nothing that expires within it. 0 if the
    server's clock stands still between calls of `travel`; then expiry is checked to the second."""

    def connect(self) -> ClientAdapter:
        """Return a new client of the server. Called once for each example."""
        raise NotImplementedError("a model derives MemcachedModel and overrides connect")

    def empty(self, client: ClientAdapter) -> None:
        """Remove all items before an example: by `flush_all` of the client, unless this is overridden."""
        client.flush_all()

    def travel(self, seconds: int) -> None:
        """Move the server's clock forward. Unless this is overridden, nothing that the model stores expires in time."""
        raise NotImplementedError("the fixture can't move the server's clock")

    def now(self) -> float:
        """Return the server's unix time. To be overridden with `travel`; otherwise no ttl is a unix time."""
        return time.time() + self._travelled

    def stalled(self) -> AbstractContextManager[object]:
        """Hold back all of the server's answers in a block, and send them at its end.

        Unless this is overridden, no time-outs are tried. The adapter needs `timeouts`.
        """
        raise NotImplementedError("the fixture can't hold back answers")

    def __init__(self) -> None:
        super().__init__()
        self._travelled = 0
        self._has_unanswered = False
        """Whether the server may not have carried out the last request yet, as that asked for no reply."""
        self._tokens: dict[tuple[bytes, object], int] = {}
        self.pool: Sequence[bytes] = ()
        """The keys of this example."""
        self.client: ClientAdapter = self.connect()
        self.cache = PlainCache(self._server_seconds())

    def teardown(self) -> None:
        """Close the client, once the server has carried out all that it asked for."""
        try:
            self._await_answers()
        finally:
            self.client.close()

    def offers(self, name: str) -> bool:
        """Tell whether the client has a command, or this model a hook, of this name."""
        if name in HOOKS:
            return getattr(type(self), name) is not getattr(MemcachedModel, name)
        return offers(self.client, name)

    def ttls(self) -> SearchStrategy[Ttl]:
        """Make the ttls that the model can follow."""
        travels = self.offers("travel")
        shortest = 1 if travels else TTL_WITHOUT_TRAVEL
        relative = strategies.ttls(negative=self.negative_ttls, shortest=shortest)
        if travels and not self.offers("now"):
            return relative
        away = st.sampled_from([-1, 1]).flatmap(lambda sign: st.integers(10, 1000).map(lambda span: sign * span))
        return st.one_of(relative, away.map(lambda span: UnixTime(span if span < 0 else span + shortest)))

    # Time

    def _server_seconds(self) -> float:
        return self.now() if self.slack_seconds else int(self.now())

    def _events(self) -> list[float]:
        """List the times at which something expires, or is flushed."""
        return [item.expires for item in self.cache.items.values()] + [self.cache.flush_at]

    def _settled(self) -> PlainCache:
        """Bring the plain cache up to the server's time, which first moves past whatever may be happening just now."""
        while True:
            now = self._server_seconds()
            if not any(abs(event - now) <= self.slack_seconds for event in self._unsure_events()):
                break
            if not self.offers("travel"):
                reject()
            self._travel(math.ceil(2 * self.slack_seconds) + 1)
        self.cache.now = now
        if self.cache.flush_at < now:
            self._flush_late()
        return self.cache

    def _settled_with(self, ttl: Ttl) -> tuple[PlainCache, int]:
        """Do so, and return what is sent for a ttl, too."""
        cache = self._settled()
        return cache, int(cache.now) + ttl.away if isinstance(ttl, UnixTime) else ttl

    def _unsure_events(self) -> list[float]:
        """List the times around which the server's answer is not known: all of them, or if its clock stands still, the
        flush only."""
        return self._events() if self.slack_seconds else [self.cache.flush_at]

    def _flush_late(self) -> None:
        """Carry out a flush whose time has come. Of items that were stored around that time, the server tells."""
        at, self.cache.flush_at = self.cache.flush_at, math.inf
        for key, item in list(self.cache.items.items()):
            is_old = item.stored_at < at - 1 - self.slack_seconds
            is_new = item.stored_at > at + self.slack_seconds
            if is_old or (not is_new and self.client.get(key) is None):
                del self.cache.items[key]

    def _await_answers(self) -> None:
        """Have the server carry out what asked for no reply: once a later request is answered, that is done.

        Reads all keys, as a client may have a connection for each server.
        """
        if self._has_unanswered:
            for key in self.pool:
                self.client.get(key)
            self._has_unanswered = False

    def _travel(self, seconds: int) -> None:
        self._await_answers()
        self.travel(seconds)
        self._travelled += seconds

    # Asking and comparing

    def _ask(self, call: Callable[[ClientAdapter], T], quiet: bool = False) -> T:
        """Ask the client. If something may have expired meanwhile, as the machine was busy, give the example up."""
        found = call(self.client.quiet() if quiet else self.client)
        self._has_unanswered = quiet
        now = self._server_seconds()
        assume(not any(self.cache.now < event <= now + self.slack_seconds for event in self._events()))
        return found

    def _compare(self, key: bytes, right: object, call: Callable[[ClientAdapter], object], quiet: bool) -> None:
        """Have the client change a key; compare what it returns, and what is there then, unless that is quiet."""
        found = self._ask(call, quiet)
        assert quiet or found == right, f"the client returned {found!r}; {right!r} is right"
        if not quiet:
            self._look_at(key)

    def _look_at(self, *keys: bytes) -> None:
        """Read keys one by one."""
        for key in keys:
            right = self._settled().get(key)
            self._compare_item(self._ask(partial(_get, key)), right)

    def _compare_item(self, found: FoundItem | None, right: PlainItem | None) -> None:
        """Compare a value, and its flags if the client tells them."""
        assert (found is None) == (right is None), f"the client found {found!r}; {right!r} is right"
        if found is not None and right is not None:
            assert found.value == right.value, f"the client found {found.value!r}; {right.value!r} is right"
            told = found.flags is not None
            assert not told or found.flags == right.flags, f"the client found flags {found.flags}; not {right.flags}"

    def _compare_items(self, found: Mapping[bytes, FoundItem], right: Mapping[bytes, PlainItem]) -> None:
        assert found.keys() == right.keys(), f"the client found {sorted(found)!r}; {sorted(right)!r} is right"
        for key, item in right.items():
            self._compare_item(found[key], item)

    def _seen(self, key: bytes, found: FoundItem | None) -> list[SeenToken]:
        """Remember the token of a value: one token stands for one version of one key, and changes with it."""
        item = self.cache.get(key)
        if found is None or item is None:
            return []
        assert found.cas is not None, "the client gave no token"
        version = self._tokens.setdefault((key, found.cas), item.version)
        assert version == item.version, f"the client gave the token {found.cas!r} for two values of {key!r}"
        return [SeenToken(key, found.cas, item.version)]

    def _there(self, keys: Sequence[bytes]) -> dict[bytes, PlainItem]:
        """Return the items of these keys that there are."""
        cache = self._settled()
        items = {key: cache.get(key) for key in keys}
        return {key: item for key, item in items.items() if item is not None}

    def _demand(self, errors: tuple[type[Exception], ...], call: Callable[[ClientAdapter], object]) -> None:
        """Demand that the client raises one of these."""
        try:
            found = self._ask(call)
        except errors:
            return
        names = " or ".join(error.__name__ for error in errors)
        raise AssertionError(f"the client returned {found!r}; it had to raise {names}")

    # Rules

    tokens = Bundle("tokens")

    @initialize(
        items=_from(lambda model: st.dictionaries(model.keys, st.none() | model.values, min_size=1, max_size=MOST_KEYS))
    )
    def begin(self, items: dict[bytes, bytes | None]) -> None:
        """Choose the keys, and begin with a server that has nothing but the values given for some of them."""
        self.pool = list(items)
        self.empty(self.client)
        self.cache.now = self._server_seconds()
        for key, value in items.items():
            if value is not None:
                self.set(key, value, 0, 0, quiet=False)

    @rule(key=KEY)
    def get(self, key: bytes) -> None:
        """Read a key."""
        self._look_at(key)

    @rule(key=KEY, value=VALUE, flags=FLAGS, ttl=TTL, quiet=QUIET)
    def set(self, key: bytes, value: bytes, flags: int, ttl: Ttl, quiet: bool) -> None:
        """Store a value."""
        cache, expire = self._settled_with(ttl)
        right = cache.set(key, value, flags, expire)
        self._compare(key, right, lambda client: client.set(key, value, flags, expire), quiet)

    @needs("add")
    @rule(key=KEY, value=VALUE, flags=FLAGS, ttl=TTL, quiet=QUIET)
    def add(self, key: bytes, value: bytes, flags: int, ttl: Ttl, quiet: bool) -> None:
        """Store a value where there is none."""
        cache, expire = self._settled_with(ttl)
        right = cache.add(key, value, flags, expire)
        self._compare(key, right, lambda client: client.add(key, value, flags, expire), quiet)

    @needs("replace")
    @rule(key=KEY, value=VALUE, flags=FLAGS, ttl=TTL, quiet=QUIET)
    def replace(self, key: bytes, value: bytes, flags: int, ttl: Ttl, quiet: bool) -> None:
        """Store a value where there is one."""
        cache, expire = self._settled_with(ttl)
        right = cache.replace(key, value, flags, expire)
        self._compare(key, right, lambda client: client.replace(key, value, flags, expire), quiet)

    @needs("append")
    @rule(key=KEY, value=VALUE, quiet=QUIET)
    def append(self, key: bytes, value: bytes, quiet: bool) -> None:
        """Put bytes behind a value."""
        right = self._settled().append(key, value)
        self._compare(key, right, lambda client: client.append(key, value), quiet)

    @needs("prepend")
    @rule(key=KEY, value=VALUE, quiet=QUIET)
    def prepend(self, key: bytes, value: bytes, quiet: bool) -> None:
        """Put bytes before a value."""
        right = self._settled().prepend(key, value)
        self._compare(key, right, lambda client: client.prepend(key, value), quiet)

    @needs("gets")
    @rule(key=KEY, target=tokens)
    def gets(self, key: bytes) -> MultipleResults[SeenToken]:
        """Read a key with its token."""
        right = self._settled().get(key)
        found = self._ask(lambda client: client.gets(key))
        self._compare_item(found, right)
        return multiple(*self._seen(key, found))

    @needs("gets", "cas")
    @rule(token=tokens, value=VALUE, flags=FLAGS, ttl=TTL, quiet=QUIET)
    def cas(self, token: SeenToken, value: bytes, flags: int, ttl: Ttl, quiet: bool) -> None:
        """Store a value where nobody has changed it since `gets`."""
        key = token.key
        cache, expire = self._settled_with(ttl)
        right = cache.cas(key, value, token.version, flags, expire)
        found = self._ask(lambda client: client.cas(key, value, token.cas, flags, expire), quiet)
        is_told = found == right or (found is False and right is None)
        assert quiet or is_told, f"the client returned {found!r}; {right!r} is right"
        self._look_at(key)

    @needs("get_many")
    @rule(keys=SEVERAL)
    def get_many(self, keys: Sequence[bytes]) -> None:
        """Read several keys."""
        right = self._there(keys)
        self._compare_items(self._ask(lambda client: client.get_many(keys)), right)

    @needs("gets_many")
    @rule(keys=SEVERAL, target=tokens)
    def gets_many(self, keys: Sequence[bytes]) -> MultipleResults[SeenToken]:
        """Read several keys with their tokens."""
        right = self._there(keys)
        found = self._ask(lambda client: client.gets_many(keys))
        self._compare_items(found, right)
        return multiple(*(token for key in keys for token in self._seen(key, found.get(key))))

    @needs("set_many")
    @rule(values=st.dictionaries(KEY, VALUE, min_size=1), flags=FLAGS, ttl=TTL, quiet=QUIET)
    def set_many(self, values: Mapping[bytes, bytes], flags: int, ttl: Ttl, quiet: bool) -> None:
        """Store several values."""
        cache, expire = self._settled_with(ttl)
        for key, value in values.items():
            cache.set(key, value, flags, expire)
        found = self._ask(lambda client: client.set_many(values, flags, expire), quiet)
        assert quiet or found, f"the client returned {found!r}; True is right"
        self._look_at(*values)

    @needs("delete")
    @rule(key=KEY, quiet=QUIET)
    def delete(self, key: bytes, quiet: bool) -> None:
        """Remove a key."""
        right = self._settled().delete(key)
        self._compare(key, right, lambda client: client.delete(key), quiet)

    @needs("incr")
    @rule(key=KEY, start=START, delta=DELTA, quiet=QUIET)
    def incr(self, key: bytes, start: bytes | None, delta: int, quiet: bool) -> None:
        """Add to a number: to what is there, or to one that is stored before."""
        self._count(key, start, delta, quiet, lambda client: client.incr(key, delta))

    @needs("decr")
    @rule(key=KEY, start=START, delta=DELTA, quiet=QUIET)
    def decr(self, key: bytes, start: bytes | None, delta: int, quiet: bool) -> None:
        """Subtract from a number: from what is there, or from one that is stored before."""
        self._count(key, start, -delta, quiet, lambda client: client.decr(key, delta))

    def _count(
        self, key: bytes, start: bytes | None, delta: int, quiet: bool, call: Callable[[ClientAdapter], int | None]
    ) -> None:
        """Count, or have the client refuse to, where it is clear what is right."""
        if start is not None:
            self.set(key, start, 0, 0, quiet=False)
        cache = self._settled()
        item = cache.get(key)
        if item is not None and not is_clear(item.value):
            return
        try:
            right = cache.count(key, delta)
        except NotANumber:
            if quiet:
                self._ask(call, quiet)
            elif self.client.refusals:
                self._demand(self.client.refusals, call)
        else:
            found = self._ask(call, quiet)
            assert quiet or found == right, f"the client returned {found!r}; {right!r} is right"
            self._look_at_number(key)

    def _look_at_number(self, key: bytes) -> None:
        """Read a number that has changed. memcached leaves the spaces out while it still sends the old one."""
        right = self._settled().get(key)
        found = self._ask(partial(_get, key))
        if found is not None and right is not None and found.value == right.value.rstrip(b" "):
            right = self.cache.items[key] = replace(right, value=found.value)
        self._compare_item(found, right)

    @needs("touch")
    @rule(key=KEY, ttl=TTL, quiet=QUIET)
    def touch(self, key: bytes, ttl: Ttl, quiet: bool) -> None:
        """Change when a value expires."""
        cache, expire = self._settled_with(ttl)
        right = cache.touch(key, expire)
        self._compare(key, right, lambda client: client.touch(key, expire), quiet)

    @needs("gat")
    @rule(key=KEY, ttl=TTL)
    def gat(self, key: bytes, ttl: Ttl) -> None:
        """Read a key, and change when it expires."""
        cache, expire = self._settled_with(ttl)
        right = cache.get(key)
        cache.touch(key, expire)
        self._compare_item(self._ask(lambda client: client.gat(key, expire)), right)
        self._look_at(key)

    @needs("flush_all")
    @rule(delay=DELAY, quiet=QUIET)
    def flush_all(self, delay: int, quiet: bool) -> None:
        """Have everything removed, at once or in some seconds."""
        self._settled().flush(delay)
        self._ask(lambda client: client.flush_all_later(delay) if delay else client.flush_all(), quiet)
        if not quiet:
            self._look_at(*self.pool)

    @needs("travel")
    @rule(late=st.sampled_from([-1, 0, 1]), otherwise=st.integers(1, 20))
    def wait(self, late: int, otherwise: int) -> None:
        """Let time pass until so many seconds after something expires or is flushed, or for others if nothing does."""
        now = self._settled().now
        spans = [event - now for event in self._events() if 1 - late <= event - now <= LONGEST_STEP]
        self._travel(round(min(spans)) + late if spans else otherwise)
        self._look_at(*self.pool)

    @precondition(lambda model: model.client.refusals and not model.invalid_keys.is_empty)
    @rule(key=_from(lambda model: model.invalid_keys), command=st.sampled_from(["get", "set", "delete"]))
    def refuse(self, key: bytes, command: str) -> None:
        """Have the client refuse a key."""
        self._settled()
        calls: dict[str, Callable[[ClientAdapter], object]] = {
            "get": lambda client: client.get(key),
            "set": lambda client: client.set(key, b"refused", 0, 0),
            "delete": lambda client: client.delete(key),
        }
        if self.offers(command):
            self._demand(self.client.refusals, calls[command])

    @needs("stalled")
    @rule(key=KEY)
    def time_out(self, key: bytes) -> None:
        """Read a key while no answer comes. The late answer must not be taken for that of the next request."""
        self._settled()
        with self.stalled():
            self._demand(self.client.timeouts, lambda client: client.get(key))
