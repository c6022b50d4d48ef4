"""/openapi.json: the description of the site's paths, for programs (OpenAPI 3.1)."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from memcache_kv.protocol.http.content_types import MEDIA_TYPES
from memcache_kv.protocol.http.key_listing import PAGE_DEFAULT, PAGE_LIMIT
from memcache_kv.protocol.http.keys import LONGEST_TTL
from memcache_kv.protocol.http.message import JSON_TYPE, PROBLEM_TYPE, HttpReply, HttpRequest
from memcache_kv.protocol.http.pipeline import OPERATIONS_LIMIT
from memcache_kv.protocol.http.site import HttpClient
from memcache_kv.store.entry import KEY_LIMIT_BYTES
from memcache_kv.version import VERSION

JSON, PROBLEM = JSON_TYPE.decode(), PROBLEM_TYPE.decode()
ALWAYS_POSSIBLE = (400, 401, 403, 421)
"""The errors that any request may have: malformed, without a login, not allowed, and of an unknown host."""
TAG_PATTERN = '"[0-9]+"'

SchemaPart = dict[str, Any]


def describe_site(client: HttpClient, request: HttpRequest) -> HttpReply:
    """Return the description."""
    return HttpReply(200, OPENAPI_JSON, JSON_TYPE)


def _content(media_type: str, schema: SchemaPart) -> SchemaPart:
    return {"content": {media_type: {"schema": schema}}}


def _reference(name: str) -> SchemaPart:
    return {"$ref": f"#/components/schemas/{name}"}


def _reply(
    description: str, media_type: str = "", schema: SchemaPart | None = None, tagged: bool = False
) -> SchemaPart:
    reply: SchemaPart = {"description": description}
    if schema is not None:
        reply |= _content(media_type, schema)
    if tagged:
        reply["headers"] = {"ETag": {"description": "the CAS id in quotes", "schema": {"type": "string"}}}
    return reply


def _replies(expected: SchemaPart, statuses: tuple[int, ...], media_type: str, schema: str) -> SchemaPart:
    """Return the replies of an operation: those expected, and its errors in one form."""
    errors = {
        str(status): _reply(HTTPStatus(status).phrase, media_type, _reference(schema))
        for status in sorted({*ALWAYS_POSSIBLE, *statuses} - {int(status) for status in expected})
    }
    for status in ("401", "403", "421"):  # these are found before the path matters
        if media_type != PROBLEM:
            errors[status]["content"][PROBLEM] = {"schema": _reference("Problem")}
    return expected | errors


def _operation(
    name: str, summary: str, replies: SchemaPart, parameters: tuple[str, ...] = (), body: SchemaPart | None = None
) -> SchemaPart:
    operation: SchemaPart = {"operationId": name, "summary": summary, "responses": replies}
    if parameters:
        operation["parameters"] = [{"$ref": f"#/components/parameters/{each}"} for each in parameters]
    if body is not None:
        operation["requestBody"] = {"required": True} | body
    return operation


def _parameter(name: str, place: str, description: str, schema: SchemaPart) -> SchemaPart:
    return {"name": name, "in": place, "description": description, "required": place == "path", "schema": schema}


def _object(properties: SchemaPart, required: tuple[str, ...] = ()) -> SchemaPart:
    return {"type": "object", "properties": properties, "required": list(required)}


def _value_path() -> SchemaPart:
    message = _reply("done", JSON, _object({"message": {"type": "string"}}, ("message",)))
    missing = _reply("there is no such key", JSON, _reference("Error"))
    body = _content(JSON, _object({"value": {}}, ("value",)))

    def replies(expected: SchemaPart, *statuses: int) -> SchemaPart:
        return _replies(expected, statuses, JSON, "Error")

    found = _reply("the value", JSON, _object({"value": {}}, ("value",)))
    return {
        "parameters": [{"$ref": "#/components/parameters/key"}],
        "get": _operation("getValue", "Read a value", replies({"200": found, "404": missing}, 406)),
        "put": _operation("putValue", "Store a value", replies({"200": message}, 413, 507), body=body),
        "post": _operation("postValue", "Store a value", replies({"200": message}, 413, 507), body=body),
        "delete": _operation("deleteValue", "Delete a value", replies({"200": message, "404": missing}, 507)),
    }


def _item_path() -> SchemaPart:
    item = {"200": _reply("the value", "*/*", {}, tagged=True), "304": _reply("not modified", tagged=True)}
    stored = {
        "201": _reply("stored, a new item", tagged=True),
        "204": _reply("stored in the place of another item", tagged=True),
    }
    body: SchemaPart = {
        "content": {media_type.decode(): {"schema": {}} for media_type in (*MEDIA_TYPES.values(), b"*/*")}
    }
    tags = ("ifMatch", "ifNoneMatch")

    def replies(expected: SchemaPart, *statuses: int) -> SchemaPart:
        return _replies(expected, statuses, PROBLEM, "Problem")

    bare = {"200": _reply("the item", tagged=True), "304": _reply("not modified", tagged=True)}
    bare |= {str(status): _reply(HTTPStatus(status).phrase) for status in (*ALWAYS_POSSIBLE, 404, 412)}
    return {
        "parameters": [{"$ref": "#/components/parameters/key"}],
        "get": _operation("getItem", "Read an item", replies(item, 404, 412), tags),
        "head": _operation("headItem", "Read an item without its value", bare, tags),
        "put": _operation("putItem", "Store an item", replies(stored, 412, 413, 415, 507), ("ttl", *tags), body),
        "delete": _operation(
            "deleteItem", "Delete an item", replies({"204": _reply("deleted")}, 404, 412, 507), tags
        ),
    }  # fmt: skip


def _other_paths() -> SchemaPart:
    listing = _operation(
        "listKeys", "List keys", _replies({"200": _reply("a page", JSON, _reference("Page"))}, (), PROBLEM, "Problem"),
        ("prefix", "cursor", "limit"),
    )  # fmt: skip
    operations = {"type": "array", "maxItems": OPERATIONS_LIMIT, "items": _reference("Operation")}
    results = _reply("a result for each", JSON, {"type": "array", "items": _reference("Result")})
    pipeline = _operation(
        "runPipeline", "Carry out many operations", _replies({"200": results}, (413, 415, 507), PROBLEM, "Problem"),
        body=_content(JSON, operations),
    )  # fmt: skip
    described = _replies({"200": _reply("this", JSON, {"type": "object"})}, (), PROBLEM, "Problem")
    return {
        "/v1/kv": {"get": listing},
        "/v1/pipeline": {"post": pipeline},
        "/openapi.json": {"get": _operation("describe", "Describe the site", described)},
    }


def _parameters() -> SchemaPart:
    key: SchemaPart = {"type": "string", "minLength": 1, "maxLength": KEY_LIMIT_BYTES}
    tags: SchemaPart = {"type": "string", "pattern": rf"^(\*|{TAG_PATTERN}(, {TAG_PATTERN})*)$"}
    ttl: SchemaPart = {"type": "integer", "minimum": 0, "maximum": LONGEST_TTL, "default": 0}
    limit: SchemaPart = {"type": "integer", "minimum": 1, "maximum": PAGE_LIMIT, "default": PAGE_DEFAULT}
    return {
        "key": _parameter("key", "path", f"the key, percent-encoded; 1 to {KEY_LIMIT_BYTES} bytes", key),
        "ttl": _parameter("ttl", "query", "seconds until the item expires; 0: never", ttl),
        "prefix": _parameter("prefix", "query", "what the keys begin with", {"type": "string"}),
        "cursor": _parameter("cursor", "query", "the cursor of the page before", {"type": "string"}),
        "limit": _parameter("limit", "query", "the most keys of a page", limit),
        "ifMatch": _parameter("If-Match", "header", "entity tags, or *", tags),
        "ifNoneMatch": _parameter("If-None-Match", "header", "entity tags, or *", tags),
    }


def _schemas() -> SchemaPart:
    text: SchemaPart = {"type": "string"}
    number: SchemaPart = {"type": "integer"}
    listed = _object(
        {"key": text, "bytes": number, "type": text, "expires": {"type": ["integer", "null"]}},
        ("key", "bytes", "type", "expires"),
    )
    operation = _object(
        {
            "method": {"enum": ["GET", "PUT", "DELETE"]},
            "key": text,
            "value": {"type": ["string", "null"]},
            "base64": {"type": ["string", "null"], "contentEncoding": "base64", "pattern": "^([A-Za-z0-9+/]{4})*$"},
            "type": text,
            "ttl": number | {"minimum": 0, "maximum": LONGEST_TTL},
            "ifMatch": text,
            "ifNoneMatch": text,
        },
        ("method", "key"),
    )
    result = {"status": number, "etag": text, "type": text, "value": text, "base64": text, "detail": text}
    return {
        "Error": _object({"error": text}, ("error",)),
        "Problem": _object({"type": text, "title": text, "status": number, "detail": text}, ("title", "status")),
        "Page": _object({"keys": {"type": "array", "items": listed}, "cursor": {"type": ["string", "null"]}},
                        ("keys", "cursor")),
        "Operation": operation | {"additionalProperties": False},
        "Result": _object(result, ("status",)),
    }  # fmt: skip


def _description() -> SchemaPart:
    return {
        "openapi": "3.1.0",
        "info": {"title": "memcache_kv", "version": VERSION, "description": "Items by HTTP."},
        "paths": {"/{key}": _value_path(), "/v1/kv/{key}": _item_path()} | _other_paths(),
        "components": {
            "parameters": _parameters(),
            "schemas": _schemas(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"bearer": []}],
    }


OPENAPI_JSON = json.dumps(_description()).encode() + b"\n"
