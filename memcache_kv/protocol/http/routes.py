"""The site of the items: which path and method is answered by what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from memcache_kv.auth.access import CommandClass
from memcache_kv.errors import WritesRejected
from memcache_kv.protocol.http.browsers import BrowserRules
from memcache_kv.protocol.http.dates import DateLine
from memcache_kv.protocol.http.items import ITEM_METHODS
from memcache_kv.protocol.http.json_values import NOT_SAVED_ERROR, VALUE_METHODS, error_reply
from memcache_kv.protocol.http.keys import key_in
from memcache_kv.protocol.http.message import Header, HttpReply, HttpRequest
from memcache_kv.protocol.http.problems import HttpProblem
from memcache_kv.protocol.http.site import HttpClient

ITEM_PATH = b"/v1/kv/"
VERSION_PATHS = (b"/v1", b"/v1/")

KeyAction: TypeAlias = Callable[[HttpClient, HttpRequest, bytes], HttpReply]
"""Carries out a method on a key."""


class ItemSite:
    """Serve the items of a store: `/v1/kv/{key}`, and `/{key}` in JSON."""

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
        if path.startswith(ITEM_PATH) and len(path) > len(ITEM_PATH):
            return self._act(client, request, ITEM_METHODS, path[len(ITEM_PATH) :])
        if path.startswith(b"/v1/") or path in VERSION_PATHS:
            raise HttpProblem(404, "There is nothing at this path.")
        return self._answer_value(client, request)

    def _answer_value(self, client: HttpClient, request: HttpRequest) -> HttpReply:
        """Answer `/{key}`, whose errors have a form of their own."""
        encoded = request.path[1:]
        if not encoded or b"/" in encoded or not request.path.startswith(b"/"):
            return error_reply(404, "Nothing is at this path; a key is /key, or /v1/kv/key")
        try:
            return self._act(client, request, VALUE_METHODS, encoded)
        except WritesRejected:
            client.count_rejected_write()
            return NOT_SAVED_ERROR
        except HttpProblem as problem:
            return error_reply(problem.status, problem.detail, problem.headers)

    def _act(
        self,
        client: HttpClient,
        request: HttpRequest,
        methods: Mapping[bytes, tuple[KeyAction, CommandClass]],
        encoded: bytes,
    ) -> HttpReply:
        """Carry out a method on the key that a part of the path names."""
        found = methods.get(request.method)
        if found is None:
            raise HttpProblem(405, "The method is not allowed here.", ((b"Allow", b", ".join(methods)),))
        action, command_class = found
        key = key_in(encoded)
        if command_class > client.highest_class:
            raise HttpProblem(403, "This client may not use this method.")
        return action(client, request, key)
