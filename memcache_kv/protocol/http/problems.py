"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

import json
from http import HTTPStatus

from memcache_kv.protocol.http.message import PROBLEM_TYPE, Header, HttpReply

NOT_SAVED_DETAIL = "The journal can't be written, so nothing can be changed; reading is possible."


class HttpProblem(Exception):
    """A request that is answered with an error.

    status: the reply's status; detail: what is wrong and what is allowed, for people.
    """

    def __init__(self, status: int, detail: str, headers: tuple[Header, ...] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


def problem_reply(status: int, detail: str, headers: tuple[Header, ...] = ()) -> HttpReply:
    """Return the reply to a request that failed."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return HttpReply(status, json.dumps(body).encode() + b"\n", PROBLEM_TYPE, headers)


def reply_to(problem: HttpProblem) -> HttpReply:
    """Return the reply with these problem details."""
    return problem_reply(problem.status, problem.detail, problem.headers)
