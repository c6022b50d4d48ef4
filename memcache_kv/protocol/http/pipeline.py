"""POST /v1/pipeline: many operations in one request, carried out in order, each with a status of its own."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from memcache_kv.errors import WritesRejected
from memcache_kv.protocol.http.actions import act_on_key
from memcache_kv.protocol.http.items import ITEM_METHODS
from memcache_kv.protocol.http.keys import LONGEST_TTL
from memcache_kv.protocol.http.message import JSON_TYPE, HttpReply, HttpRequest
from memcache_kv.protocol.http.problems import NOT_SAVED_DETAIL, HttpProblem
from memcache_kv.protocol.http.site import HttpClient

OPERATIONS_LIMIT = 1000
"""The most operations of one request."""


class Operation(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """One operation. key: percent-encoded as in a path; value, base64: the value as text, or any bytes."""

    method: Literal["GET", "PUT", "DELETE"]
    key: str
    value: str | None = None
    base64: bytes | None = None
    type: str = ""
    ttl: Annotated[int, msgspec.Meta(ge=0, le=LONGEST_TTL)] = 0
    if_match: str = ""
    if_none_match: str = ""

    def request(self) -> HttpRequest:
        """Return the request that does the same. Raises HttpProblem if there is none."""
        has_value = (self.value is not None) + (self.base64 is not None)
        if has_value != (self.method == "PUT"):
            raise HttpProblem(400, "A PUT has either value or base64; the others have neither.")
        given = ((b"content-type", self.type), (b"if-match", self.if_match), (b"if-none-match", self.if_none_match))
        headers = {name: value.encode() for name, value in given if value}
        query = b"ttl=%d" % self.ttl if self.ttl else b""
        body = self.value.encode() if self.value is not None else self.base64 or b""
        return HttpRequest(self.method.encode(), b"", query, headers, body)


_decode_operations = msgspec.json.Decoder(list[Operation]).decode


def run_pipeline(client: HttpClient, request: HttpRequest) -> HttpReply:
    """Carry out the operations of a request's body. Raises HttpProblem."""
    media_type = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != JSON_TYPE:
        raise HttpProblem(415, "The body must be application/json.")
    try:
        operations = _decode_operations(request.body)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise HttpProblem(400, f"The body is not a list of operations: {error}.") from None
    if len(operations) > OPERATIONS_LIMIT:
        raise HttpProblem(413, f"There are {len(operations)} operations; allowed: {OPERATIONS_LIMIT}.")
    return HttpReply(200, content_type=JSON_TYPE, chunks=_results(client, operations))


def _results(client: HttpClient, operations: list[Operation]) -> Iterator[bytes]:
    """Carry out the operations one by one, and yield their results."""
    separator = b"["
    for operation in operations:
        yield separator + msgspec.json.encode(_result(client, operation))
        separator = b", "
    yield b"[]\n" if not operations else b"]\n"


def _result(client: HttpClient, operation: Operation) -> dict[str, object]:
    try:
        reply = act_on_key(client, operation.request(), ITEM_METHODS, operation.key.encode())
    except HttpProblem as problem:
        return {"status": problem.status, "detail": problem.detail}
    except WritesRejected:
        client.count_rejected_write()
        return {"status": 507, "detail": NOT_SAVED_DETAIL}
    result: dict[str, object] = {"status": reply.status}
    tag = dict(reply.headers).get(b"ETag")
    if tag is not None:
        result["etag"] = tag.decode()
    if reply.status == 200:
        result["type"] = reply.content_type.decode()
        try:
            result["value"] = reply.body.decode()
        except UnicodeDecodeError:
            result["base64"] = b64encode(reply.body).decode()
    return result
