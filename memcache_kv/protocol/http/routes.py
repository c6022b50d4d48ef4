"""The site of the items: which path and method is answered by what."""

from __future__ import annotations

from collections.abc import Callable

from memcache_kv.errors import WritesRejected
from memcache_kv.protocol.http.actions import act_on_key, not_allowed
from memcache_kv.protocol.http.browsers import BrowserRules
from memcache_kv.protocol.http.dates import DateLine
from memcache_kv.protocol.http.items import ITEM_METHODS
from memcache_kv.protocol.http.json_values import NOT_SAVED_ERROR, VALUE_METHODS, error_reply
from memcache_kv.protocol.http.key_listing import list_keys
from memcache_kv.protocol.http.message import Header, HttpReply, HttpRequest
from memcache_kv.protocol.http.openapi import describe_site
from memcache_kv.protocol.http.pipeline import run_pipeline
from memcache_kv.protocol.http.problems import HttpProblem
from memcache_kv.protocol.http.site import HttpClient

ITEM_PATH = b"/v1/kv/"
VERSION_PATH = b"/v1/"

PATHS: dict[bytes, dict[bytes, Callable[[HttpClient, HttpRequest], HttpReply]]] = {
    b"/v1/kv": {b"GET": list_keys, b"HEAD": list_keys},
    b"/v1/pipeline": {b"POST": run_pipeline},
    b"/openapi.json": {b"GET": describe_site, b"HEAD": describe_site},
}
"""The paths that are not those of a key. `/openapi.json` is not the path of a JSON value."""


class ItemSite:
    """Serve the items of a store: `/v1/kv/{key}`, `/{key}` in JSON, and the paths of PATHS."""

    def __init__(self, rules: BrowserRules) -> None:
        self.dates = DateLine()
        self._rules = rules
        self.has_origins = rules.has_origins

    def origin_headers(self, request: HttpRequest) -> tuple[Header, ...]:
        """Return the headers that let the page of a configured origin read a reply."""
        return self._rules.cors_headers(request.headers)

    def screen(self, request: HttpRequest) -> HttpReply | None:
        """Return the reply to a request of a foreign page, and to a preflight; None lets a request go on."""
        return self._rules.refusal(request.headers) or self._rules.preflight(request)

    def answer(self, client: HttpClient, request: HttpRequest) -> HttpReply:
        """Carry out a request. Raises HttpProblem and WritesRejected."""
        path = request.path
        if path.startswith(ITEM_PATH) and path != ITEM_PATH:
            return act_on_key(client, request, ITEM_METHODS, path[len(ITEM_PATH) :])
        methods = PATHS.get(path)
        if methods is not None:
            act = methods.get(request.method)
            if act is None:
                raise not_allowed(methods)
            return act(client, request)
        if path.startswith(VERSION_PATH):
            raise HttpProblem(404, "There is nothing at this path.")
        return self._answer_value(client, request)

    def _answer_value(self, client: HttpClient, request: HttpRequest) -> HttpReply:
        """Answer `/{key}`, whose errors have a form of their own."""
        encoded = request.path[1:]
        if not encoded or b"/" in encoded or not request.path.startswith(b"/"):
            return error_reply(404, "Nothing is at this path; a key is /key, or /v1/kv/key")
        try:
            return act_on_key(client, request, VALUE_METHODS, encoded)
        except WritesRejected:
            client.count_rejected_write()
            return NOT_SAVED_ERROR
        except HttpProblem as problem:
            return error_reply(problem.status, problem.detail, problem.headers)
