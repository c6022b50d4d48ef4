"""/v1/kv/{key}: a value as it is, with its type and its entity tag."""

from __future__ import annotations

from memcache_kv.auth.access import CommandClass
from memcache_kv.commands.delete import Deletion, delete
from memcache_kv.commands.retrieve import get_with_cas
from memcache_kv.commands.store_value import SizeRule, accepts_size, store_value
from memcache_kv.protocol.http.actions import KeyMethods, log_operation
from memcache_kv.protocol.http.content_types import flags_for, is_rendered, type_for
from memcache_kv.protocol.http.keys import LONGEST_TTL, check_names, number_of
from memcache_kv.protocol.http.message import Header, HttpReply, HttpRequest
from memcache_kv.protocol.http.preconditions import NO_CONDITIONS, preconditions, tag_of
from memcache_kv.protocol.http.problems import HttpProblem
from memcache_kv.protocol.http.site import HttpClient
from memcache_kv.store.entry import Entry, cas_of, flags_of, pack, value_of, wire_bytes_of
from memcache_kv.store.writes import Mode, Outcome, Write

KEEPS_OLD = SizeRule(drops=frozenset())
"""A value that is too large leaves the old one as it is."""
NOT_SNIFFED: tuple[Header, ...] = ((b"X-Content-Type-Options", b"nosniff"),)
SANDBOXED: tuple[Header, ...] = (*NOT_SNIFFED, (b"Content-Security-Policy", b"sandbox"))
"""For documents: scripts in a value must not use this server in the name of the reader."""
FAILED_CONDITION = "The item is not as If-Match or If-None-Match demands."
NO_ITEM = "There is no item with this key."


def get_item(client: HttpClient, request: HttpRequest, key: bytes) -> HttpReply:
    """GET or HEAD of an item."""
    check_names(request.parameters, ())
    conditions = preconditions(request.headers)
    entry = get_with_cas(client, key)
    if conditions is not NO_CONDITIONS:
        if conditions.match is not None and not conditions.match.matches(entry):
            raise HttpProblem(412, FAILED_CONDITION)
        if entry is not None and conditions.are_unchanged(entry):
            return HttpReply(304, headers=_tag_header(entry))
    if entry is None:
        raise HttpProblem(404, NO_ITEM)
    wire_bytes = wire_bytes_of(entry)
    flags, value = flags_of(wire_bytes), value_of(wire_bytes)
    log_operation(client, "GET", key, value)
    return HttpReply(
        200, value, type_for(flags), _tag_header(entry) + (SANDBOXED if is_rendered(flags) else NOT_SNIFFED)
    )


def put_item(client: HttpClient, request: HttpRequest, key: bytes) -> HttpReply:
    """PUT of an item: 201 if it is new, 204 if it replaces another. Raises HttpProblem and WritesRejected.

    The write fails if another client changes what was found, and is tried again, so that the reply tells the truth.
    """
    parameters = request.parameters
    check_names(parameters, ("ttl",))
    ttl = number_of(parameters, "ttl", 0, LONGEST_TTL, 0)
    flags, body = flags_for(request.headers.get(b"content-type", b"")), request.body
    if not accepts_size(client, Mode.REPLACE, key, len(body), flags, KEEPS_OLD):
        allowed = client.store.largest_bytes
        raise HttpProblem(413, f"The item is too large; allowed: {allowed} bytes of key, value and flags.")
    conditions = preconditions(request.headers)
    write = Write(Mode.SET, key, pack(flags, body), client.store.clock.now + ttl if ttl else 0, needs_cas=True)
    while True:
        old = client.store.get_with_cas(key) if conditions.need_ids else client.store.peek(key)
        if not conditions.hold(old):
            raise HttpProblem(412, FAILED_CONDITION)
        write.cas = cas_of(old) if old is not None and conditions.need_ids else 0
        write.mode = Mode.ADD if old is None else Mode.CAS if write.cas else Mode.REPLACE
        outcome, entry = store_value(client, write)
        if outcome is Outcome.NO_MEMORY:
            raise HttpProblem(507, "The memory is full and nothing is evicted; something must be deleted first.")
        if entry is not None:
            log_operation(client, "PUT", key, body)
            return HttpReply(201 if old is None else 204, headers=_tag_header(entry))


def delete_item(client: HttpClient, request: HttpRequest, key: bytes) -> HttpReply:
    """DELETE of an item. Raises HttpProblem and WritesRejected."""
    check_names(request.parameters, ())
    conditions = preconditions(request.headers)
    while True:
        cas = None
        if conditions is not NO_CONDITIONS:
            old = client.store.get_with_cas(key)
            if not conditions.hold(old):
                raise HttpProblem(412, FAILED_CONDITION)
            cas = None if old is None else cas_of(old)
        outcome = delete(client, Deletion(key, cas))
        if outcome is Outcome.NOT_FOUND:
            raise HttpProblem(404, NO_ITEM)
        if outcome is Outcome.DELETED:
            log_operation(client, "DELETE", key)
            return HttpReply(204)


def _tag_header(entry: Entry) -> tuple[Header, ...]:
    tag = tag_of(entry)
    return ((b"ETag", tag),) if tag else ()


ITEM_METHODS: KeyMethods = {
    b"GET": (get_item, CommandClass.READ),
    b"HEAD": (get_item, CommandClass.READ),
    b"PUT": (put_item, CommandClass.WRITE),
    b"DELETE": (delete_item, CommandClass.WRITE),
}
