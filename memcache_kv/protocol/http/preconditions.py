"""Entity tags, which are CAS ids in quotes, and the headers that compare them (RFC 9110, section 13)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from memcache_kv.protocol.http.problems import HttpProblem
from memcache_kv.store.entry import Entry, cas_of

TAG_LIST = re.compile(rb'(?:\s*(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"\s*(?:,|$))+')
TAG = re.compile(rb'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
CAS_TAG = re.compile(rb"[1-9][0-9]{0,19}|0")


def tag_of(entry: Entry) -> bytes:
    """Return the entity tag of an entry, with quotes; nothing if items have no CAS ids (-C)."""
    cas = cas_of(entry)
    return b'"%d"' % cas if cas else b""


class TagCondition(NamedTuple):
    """The value of If-Match or If-None-Match: `*`, or the CAS ids that its tags are."""

    is_any: bool
    ids: frozenset[int]

    def matches(self, entry: Entry | None) -> bool:
        """Return whether an entry, None for a missing key, has one of the tags."""
        return entry is not None and (self.is_any or cas_of(entry) in self.ids)


class Preconditions(NamedTuple):
    """What a request demands of the present item; None for nothing."""

    match: TagCondition | None = None
    none_match: TagCondition | None = None

    @property
    def need_ids(self) -> bool:
        """Whether CAS ids are compared."""
        return any(each is not None and not each.is_any for each in self)

    def hold(self, entry: Entry | None) -> bool:
        """Return whether they hold for a write, or for a read but for If-None-Match."""
        return (self.match is None or self.match.matches(entry)) and not self.are_unchanged(entry)

    def are_unchanged(self, entry: Entry | None) -> bool:
        """Return whether the entry is one that If-None-Match names."""
        return self.none_match is not None and self.none_match.matches(entry)


NO_CONDITIONS = Preconditions()


def preconditions(headers: Mapping[bytes, bytes]) -> Preconditions:
    """Return what a request's headers demand. Raises HttpProblem if they are malformed."""
    match, none_match = headers.get(b"if-match"), headers.get(b"if-none-match")
    if match is None and none_match is None:
        return NO_CONDITIONS
    return Preconditions(
        None if match is None else _condition("If-Match", match, takes_weak=False),
        None if none_match is None else _condition("If-None-Match", none_match, takes_weak=True),
    )


def _condition(name: str, value: bytes, takes_weak: bool) -> TagCondition:
    """Parse a header. A weak tag equals the strong one for If-None-Match only."""
    if value.strip() == b"*":
        return TagCondition(True, frozenset())
    if not TAG_LIST.fullmatch(value):
        raise HttpProblem(400, f'{name} must be * or a list of tags such as "12".')
    tags = [tag for weak, tag in TAG.findall(value) if takes_weak or not weak]
    return TagCondition(False, frozenset(int(tag) for tag in tags if CAS_TAG.fullmatch(tag)) - {0})
