r"""/{key}: a JSON value for each key, in the form `{"value": …}`.

A value is kept as the text of its JSON, with the client flags of application/json.
"""

from __future__ import annotations

import msgspec

from memcache_kv.auth.access import CommandClass
from memcache_kv.commands.delete import Deletion, delete
from memcache_kv.commands.retrieve import fetch
from memcache_kv.commands.store_value import accepts_size, store_value
from memcache_kv.protocol.http.actions import KeyMethods, log_operation
from memcache_kv.protocol.http.content_types import JSON_FLAGS
from memcache_kv.protocol.http.items import KEEPS_OLD
from memcache_kv.protocol.http.message import JSON_TYPE, Header, HttpReply, HttpRequest
from memcache_kv.protocol.http.site import HttpClient
from memcache_kv.store.entry import Entry, flags_of, pack, value_of, wire_bytes_of
from memcache_kv.store.writes import Mode, Outcome, Write

VALUE_STORED = HttpReply(200, b'{"message": "Value stored successfully"}', JSON_TYPE)
KEY_DELETED = HttpReply(200, b'{"message": "Key deleted successfully"}', JSON_TYPE)
MISSING_KEY = HttpReply(404, b'{"error": "Key not found"}', JSON_TYPE)


class ValueBody(msgspec.Struct):
    """The body of a request that stores a value."""

    value: msgspec.Raw


_decode_body = msgspec.json.Decoder(ValueBody).decode
_check_json = msgspec.json.Decoder(msgspec.Raw).decode


def error_reply(status: int, text: str, headers: tuple[Header, ...] = ()) -> HttpReply:
    """Return a reply in this interface's own form of errors."""
    return HttpReply(status, msgspec.json.encode({"error": text}), JSON_TYPE, headers)


def get_value(client: HttpClient, request: HttpRequest, key: bytes) -> HttpReply:
    """GET of a value."""
    entry = fetch(client, key, client.store.get)
    client.counters.count_gets(int(entry is not None), int(entry is None))
    if entry is None:
        log_operation(client, "GET", key, b"None")
        return MISSING_KEY
    value = json_of(entry)
    if client.context.operations is not None:
        log_operation(client, "GET", key, text_of(value))
    if value is None:
        return error_reply(406, "The value is not text; only /v1/kv and memcached's protocols can read it")
    return HttpReply(200, b'{"value": %b}' % value, JSON_TYPE)


def json_of(entry: Entry) -> bytes | None:
    """Return an entry's value as JSON: what was stored as JSON as it is, other text as a string; None if it is binary.

    Clients of other protocols may have made something else of a JSON value, so it is checked.
    """
    wire_bytes = wire_bytes_of(entry)
    value = value_of(wire_bytes)
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    if flags_of(wire_bytes) == JSON_FLAGS:
        try:
            _check_json(value)
        except msgspec.DecodeError:
            pass
        else:
            return value
    return msgspec.json.encode(text)


def put_value(client: HttpClient, request: HttpRequest, key: bytes) -> HttpReply:
    """PUT or POST of a value. Raises WritesRejected."""
    try:
        body = _decode_body(request.body)
        value = bytes(body.value)
        value.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return error_reply(400, 'The body must be a JSON object with the member "value"')
    if not accepts_size(client, Mode.REPLACE, key, len(value), JSON_FLAGS, KEEPS_OLD):
        return error_reply(413, f"The value is too large; allowed: {client.store.largest_bytes} bytes with the key")
    outcome, _ = store_value(client, Write(Mode.SET, key, pack(JSON_FLAGS, value)))
    if outcome is not Outcome.STORED:
        return error_reply(507, "The memory is full and nothing is evicted; something must be deleted first")
    if client.context.operations is not None:
        log_operation(client, "PUT", key, text_of(value))
    return VALUE_STORED


def delete_value(client: HttpClient, request: HttpRequest, key: bytes) -> HttpReply:
    """DELETE of a value. Raises WritesRejected."""
    if delete(client, Deletion(key)) is Outcome.NOT_FOUND:
        return MISSING_KEY
    log_operation(client, "DELETE", key)
    return KEY_DELETED


def text_of(value: bytes | None) -> bytes | None:
    """Return what the operation log has of a JSON value: of a string its text."""
    if value is None or not value.startswith(b'"'):
        return value
    try:
        return msgspec.json.decode(value, type=str).encode()
    except (msgspec.DecodeError, UnicodeEncodeError):
        return value


VALUE_METHODS: KeyMethods = {
    b"GET": (get_value, CommandClass.READ),
    b"HEAD": (get_value, CommandClass.READ),
    b"POST": (put_value, CommandClass.WRITE),
    b"PUT": (put_value, CommandClass.WRITE),
    b"DELETE": (delete_value, CommandClass.WRITE),
}
NOT_SAVED_ERROR = error_reply(507, "The journal can't be written, so nothing can be changed; reading is possible")
