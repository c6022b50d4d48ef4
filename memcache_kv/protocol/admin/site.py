"""The paths of the admin listener."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from memcache_kv.compiled import ACCELERATED
from memcache_kv.protocol.admin.observed import ObservedServer, Reason
from memcache_kv.protocol.admin.statistics import statistics_in_json
from memcache_kv.protocol.http.actions import not_allowed
from memcache_kv.protocol.http.browsers import BrowserRules
from memcache_kv.protocol.http.dates import DateLine
from memcache_kv.protocol.http.message import JSON_TYPE, Header, HttpReply, HttpRequest
from memcache_kv.protocol.http.problems import HttpProblem, problem_reply
from memcache_kv.protocol.http.site import HttpClient
from memcache_kv.stats.metrics import METRICS_TYPE, metrics_page
from memcache_kv.version import PROTOCOL_VERSION, VERSION

if TYPE_CHECKING:
    from memcache_kv.auth.admin_token import AdminToken
    from memcache_kv.observe.log import Log

Answer = Callable[[], HttpReply]

NO_ADMIN_TOKEN = problem_reply(
    401,
    "The token of the admin listener is required: send Authorization: Bearer TOKEN",
    ((b"WWW-Authenticate", b'Bearer realm="memcache_kv admin"'),),
)
READING_METHODS: Mapping[bytes, None] = {b"GET": None, b"HEAD": None}


class AdminSite:
    """Answer probes, and show metrics, statistics and versions. Nothing can be changed here.

    server: what is shown; rules: which pages in a browser may read it; token: what a request for a page must have, None
    if nothing. Probes need no token: what sends them often can't have one.
    """

    def __init__(self, server: ObservedServer, rules: BrowserRules, token: AdminToken | None, log: Log) -> None:
        self.dates = DateLine()
        self._server = server
        self._rules = rules
        self._token = token
        self._log = log
        self.has_origins = rules.has_origins
        self._probes: dict[bytes, Answer] = {b"/livez": self._livez, b"/readyz": self._readyz}
        self._pages: dict[bytes, Answer] = {
            b"/metrics": self._metrics,
            b"/stats.json": self._statistics,
            b"/version": self._version,
        }

    def origin_headers(self, request: HttpRequest) -> tuple[Header, ...]:
        """Return the headers that let the page of a configured origin read a reply."""
        return self._rules.cors_headers(request.headers)

    def screen(self, request: HttpRequest) -> HttpReply | None:
        """Let every request go on: what may be read depends on the path, which `answer` looks at."""
        return None

    def answer(self, client: HttpClient, request: HttpRequest) -> HttpReply:
        """Answer a request. Raises HttpProblem."""
        act = self._probes.get(request.path)
        if act is None:
            refusal = self._refusal(request)
            if refusal is not None:
                return refusal
            act = self._pages.get(request.path)
            if act is None:
                raise HttpProblem(404, "There is nothing at this path.")
        if request.method not in READING_METHODS:
            raise not_allowed(READING_METHODS)
        return act()

    def _refusal(self, request: HttpRequest) -> HttpReply | None:
        """Return the reply to who may read no page, and to a preflight; None lets a request go on.

        No page of another site can have the token, so with one any name of the server will do.
        """
        if self._token is None:
            return self._rules.refusal(request.headers) or self._rules.preflight(request)
        preflight = self._rules.preflight(request)
        if preflight is not None or self._token.matches(request.headers.get(b"authorization", b"")):
            return preflight
        self._log.say_rarely(AdminSite, f"rejected a request to the admin listener without its token: {request.path!r}")
        return NO_ADMIN_TOKEN

    def _livez(self) -> HttpReply:
        return _probe_reply("alive", self._server.illnesses())

    def _readyz(self) -> HttpReply:
        return _probe_reply("ready", self._server.obstacles())

    def _metrics(self) -> HttpReply:
        return HttpReply(200, content_type=METRICS_TYPE, chunks=metrics_page(self._server.reported))

    def _statistics(self) -> HttpReply:
        reported = self._server.reported
        if reported is None:
            raise HttpProblem(503, "The items are being loaded; there are no statistics yet.")
        return HttpReply(200, content_type=JSON_TYPE, chunks=statistics_in_json(reported))

    def _version(self) -> HttpReply:
        versions = {
            "memcache_kv": VERSION,
            "memcached": PROTOCOL_VERSION,
            "python": platform.python_version(),
            "compiled": ACCELERATED,
        }
        return HttpReply(200, json.dumps(versions).encode() + b"\n", JSON_TYPE)


def _probe_reply(word: str, reasons: Sequence[Reason]) -> HttpReply:
    """Return 200 without reasons, otherwise 503 with them. word: what the server is without reasons."""
    body = {"status": f"not {word}" if reasons else word, "reasons": [each._asdict() for each in reasons]}
    return HttpReply(503 if reasons else 200, json.dumps(body).encode() + b"\n", JSON_TYPE)
