"""The framing of HTTP/1.1: from bytes to requests, by h11, and from replies to bytes.

A site answers the requests (`site.py`). A request in its usual form is parsed by `fast_path.py` instead.
"""

from __future__ import annotations

import re
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING

import h11

from memcache_kv.clock import monotonic
from memcache_kv.errors import WritesRejected
from memcache_kv.protocol.context import Context
from memcache_kv.protocol.http.fast_path import HttpFastPath, KnownHeaders, known_headers
from memcache_kv.protocol.http.login import WRONG_TOKEN, BearerLogin, refusal_without_token
from memcache_kv.protocol.http.message import WITHOUT_BODY, HttpReply, HttpRequest, head_of
from memcache_kv.protocol.http.problems import NOT_SAVED_DETAIL, HttpProblem, problem_reply, reply_to
from memcache_kv.protocol.http.site import Site
from memcache_kv.protocol.session import LARGEST_READ_BYTES, READ_BYTES, TURN_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memcache_kv.auth.users import Credentials

HEAD_LIMIT_BYTES = 16 * 1024
"""The longest incomplete request line with headers, and the longest incomplete line of a chunk."""
BODY_ITEMS = 2
"""A body may be this many times as large as the largest item; JSON takes more than the bytes that it stands for."""
SPARE_BODY_BYTES = 64 * 1024
ABSOLUTE_TARGET = re.compile(rb"https?://([^/?#]*)/?(.*)", re.IGNORECASE)
LARGE_BODY_BYTES = 4096
"""The size from which a body counts for the bytes of a turn."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class HttpProtocol(HttpFastPath):
    """HTTP/1.1 on one connection; see `Session` for how to use it.

    site: answers the requests; users: the users who may log in, None if no login is needed.
    """

    __slots__ = (
        "_login", "_parser", "_parser_bytes", "_started", "_candidate", "_body_limit_bytes", "_too_large", "_waiting",
    )  # fmt: skip

    def __init__(self, context: Context, fd: int, site: Site, users: Credentials | None = None) -> None:
        super().__init__(context, fd, site)
        self._login = None if users is None else BearerLogin(users)
        self._parser: h11.Connection | None = None
        """Parses the request that has begun and is not whole."""
        self._parser_bytes = 0
        """How many bytes of an incomplete head the parser keeps."""
        self._started: HttpRequest | None = None
        """A request whose body is not whole, without it."""
        self._candidate: KnownHeaders | None = None
        """What the fast path may remember of this request's head."""
        self._body_limit_bytes = BODY_ITEMS * context.settings.max_item_size + SPARE_BODY_BYTES
        self._too_large = False
        """Whether the body of this request is too large, and is discarded."""
        self._waiting: HttpRequest | None = None
        """The request whose token a thread checks; nothing else is carried out until `resume`."""

    @property
    def is_amid_request(self) -> bool:
        """Whether the session holds an incomplete request, or one that waits for the check of its token."""
        return self._parser is not None or self._waiting is not None or super().is_amid_request

    @property
    def held_bytes(self) -> int:
        """How many bytes of an incomplete request the session holds."""
        waiting = 0 if self._waiting is None else len(self._waiting.body)
        return self._parser_bytes + waiting + super().held_bytes

    def receive(self, data: bytes) -> bool:
        """Carry out the complete requests in the input, and keep the rest; see `Session.receive`."""
        self.turn_bytes = 0
        if self._held or self._parser is not None or self.observers.active:
            return self.observers.observe(partial(self._receive_general, data))
        position, done = self._run_common(data, 0, 0)
        if position == len(data) and not self.paused:
            return self.turn_bytes <= LARGE_BODY_BYTES
        self._run_others(data[position:], done)
        return False

    def _receive_general(self, data: bytes) -> bool:
        """Handle input that continues an incomplete request, or while requests are observed."""
        if self._held:
            data, self._held = bytes(self._held) + data, b""
        self._run_others(data, 0)
        return False

    def _run(self, data: bytes, position: int = 0, done: int = 0) -> None:
        self._run_others(data[position:], done)

    def resume(self) -> None:
        """Continue where the last turn ended, or after the check of a token."""
        request = self._waiting
        if request is None or self._login is None:
            super().resume()
            return
        self._waiting, self.paused = None, False
        self._end_login(request, self._login.conclude())
        data, self._held = bytes(self._held), b""
        if data and not self.closing:
            self._run_others(data, 1)

    def close(self) -> None:
        """Release incomplete requests and unsent replies; see `Session.close`."""
        super().close()
        self._parser = self._started = self._waiting = None
        self._parser_bytes = 0

    # Requests

    def _run_others(self, data: bytes, done: int) -> None:
        """Carry out requests until the input or the turn is used up, and keep the rest of the input."""
        self._start_turn()
        is_over = self._is_turn_over(done)
        while data and not (self.closing or is_over):
            data = self._parse(data)
            done += 1
            if self.paused or self._waiting is not None:
                break
            if monotonic() > self._turn_ends_at:
                is_over = self._is_time_up("http")
            elif data and not (self.closing or self.observers.active):
                position, done = self._run_common(data, 0, done)
                data = data[position:]
            is_over = is_over or self._is_turn_over(done)
        if data and not self.closing:
            self._held = data
            if self._waiting is None:
                self.paused = True
                self.counters.conn_yields += 1

    def _is_turn_over(self, done: int) -> bool:
        """Tell whether this turn's requests or bytes are used up, or a reply takes further turns."""
        return self.paused or done >= self._requests_per_turn or self.turn_bytes > TURN_BYTES

    def _parse(self, data: bytes) -> bytes:
        """Give input to the parser, and carry out the request that it completes. Return the input after this."""
        parser = self._parser
        is_first = parser is None
        if parser is None:
            parser = self._parser = h11.Connection(h11.SERVER, HEAD_LIMIT_BYTES)
        try:
            parser.receive_data(data)
            while True:
                event = parser.next_event()
                if event is h11.NEED_DATA:
                    self._await_more(parser)
                    return b""
                if isinstance(event, h11.Request):
                    if not self._begin(event, parser, data if is_first else b""):
                        return b""
                elif isinstance(event, h11.Data):
                    self._add(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    rest, _ = parser.trailing_data
                    self._end()
                    return rest
        except h11.RemoteProtocolError as error:
            self._reject(problem_reply(error.error_status_hint, f"The request is malformed: {error}."))
            return b""

    def _await_more(self, parser: h11.Connection) -> None:
        """Take note of what the parser keeps of an incomplete request."""
        if self._started is None or not self._missing_bytes:
            self._parser_bytes = len(parser.trailing_data[0])
        self.want = max(READ_BYTES, min(self._missing_bytes, LARGEST_READ_BYTES))
        if self._started is not None and parser.they_are_waiting_for_100_continue:
            self._continue(parser)

    def _continue(self, parser: h11.Connection) -> None:
        """Ask the client for the body that it holds back."""
        parser.send(h11.InformationalResponse(status_code=100, headers=[], reason="Continue"))
        self.out.append(CONTINUE)

    def _begin(self, event: h11.Request, parser: h11.Connection, data: bytes) -> bool:
        """Begin a request. Return False if it is refused before its body.

        data: input that begins with its head; nothing if the head came in pieces.
        """
        self._started, self._parser_bytes = request_of(event), 0
        self._candidate = known_headers(data, self._started.headers)
        length = int(self._started.headers.get(b"content-length", b"0"))
        self._too_large = length > self._body_limit_bytes
        self._missing_bytes = length
        self._mid_block = True
        if self._too_large and parser.they_are_waiting_for_100_continue:
            self._reject(self._too_large_reply())
            return False
        return True

    def _add(self, data: bytes) -> None:
        """Add a part of the body, or discard it."""
        self._missing_bytes = max(self._missing_bytes - len(data), 0)
        if self._too_large:
            return
        self._block.write(data)
        if self._block.tell() > self._body_limit_bytes:
            self._too_large, self._block = True, BytesIO()

    def _end(self) -> None:
        """Carry out the request, which is whole."""
        head, is_too_large = self._started, self._too_large
        assert head is not None
        request = head._replace(body=self._block.getvalue())
        self._forget_request()
        if is_too_large:
            self._observe_request(request)
            self._reply(request, self._too_large_reply())
        else:
            self._carry_out(request)

    def _forget_request(self) -> None:
        self._parser = self._started = None
        self._parser_bytes = self._missing_bytes = 0
        self._mid_block = self._too_large = False
        if self._block.tell():
            self._block = BytesIO()

    def _too_large_reply(self) -> HttpReply:
        return problem_reply(413, f"The body is too large; allowed: {self._body_limit_bytes} bytes.")

    def _reject(self, reply: HttpReply) -> None:
        """Reply to what is not a request, or to one whose body is not read, and close the connection."""
        self._forget_request()
        self.observers.request(self.fd, b"(malformed)")
        self._reply(HttpRequest(b"", b"", has_keep_alive=False), reply)

    def _carry_out(self, request: HttpRequest) -> None:
        """Carry out a request and reply, unless its token has to be checked first."""
        if self.observers.active:
            self._observe_request(request)
        screened = self._site.screen(request)
        if screened is not None:
            self._reply(request, screened)
        elif self._login is None or self._login.is_valid(request.headers.get(b"authorization", b"")):
            self._learn(self._candidate)
            self._answer(request)
        else:
            self._begin_login(request, self._login)

    def _observe_request(self, request: HttpRequest) -> None:
        query = b"?" + request.query if request.query else b""
        self.observers.request(self.fd, request.method + b" " + request.path + query)

    def _answer(self, request: HttpRequest) -> None:
        try:
            reply = self._site.answer(self, request)
        except HttpProblem as problem:
            reply = reply_to(problem)
        except WritesRejected:
            self.count_rejected_write()
            reply = problem_reply(507, NOT_SAVED_DETAIL)
        self._reply(request, reply)

    # Logins

    def _begin_login(self, request: HttpRequest, login: BearerLogin) -> None:
        self._forget_known()
        self.permit()
        authorization = request.headers.get(b"authorization", b"")
        refusal = refusal_without_token(authorization)
        if refusal is not None:
            self._reply(request, refusal)
            return
        self.counters.auth_cmds += 1
        known = login.check(authorization)
        if known is None:
            self._waiting = request
        else:
            self._end_login(request, known)

    def _end_login(self, request: HttpRequest, is_known: bool) -> None:
        login = self._login
        assert login is not None
        self.audit_login(login.name, login.users, is_known)
        if is_known:
            self.permit(user=login.name, user_class=login.users.class_of(login.name))
            self._answer(request)
        else:
            self.counters.auth_errors += 1
            self._reply(request, WRONG_TOKEN)

    # Replies

    def _date_line(self) -> bytes:
        clock = self.store.clock
        return self._site.dates.at(clock.now + clock.wall_ahead)

    def _reply(self, request: HttpRequest, reply: HttpReply) -> None:
        """Send a reply; close the connection after it if the client wants that."""
        closes = not request.has_keep_alive
        if self._site.has_origins:
            reply = reply._replace(headers=reply.headers + self._site.origin_headers(request))
        head = head_of(reply, self._date_line(), closes)
        if reply.chunks is not None:
            self._reply_in_chunks(request, head, reply.chunks)
            return
        body = reply.body
        head += b"\r\n" if reply.status in WITHOUT_BODY else b"Content-Length: %d\r\n\r\n" % len(body)
        if self.observers.active:
            self._observe_reply(head)
        if request.method == b"HEAD" or reply.status in WITHOUT_BODY:
            body = b""
        if len(body) > LARGE_BODY_BYTES:
            self.out += (head, body)
            self.turn_bytes += len(body)
        else:
            self.out.append(head + body)
        if closes:
            self.closing, self.close_reason = True, "normal"

    def _observe_reply(self, head: bytes) -> None:
        self.observers.reply(self.fd, head[: head.find(b"\r\n")])

    def _reply_in_chunks(self, request: HttpRequest, head: bytes, chunks: Iterator[bytes]) -> None:
        """Send a reply whose body is made piece by piece. HTTP/1.0 ends it by the end of the connection."""
        closes = not request.has_keep_alive
        head += b"\r\n" if request.is_old else b"Transfer-Encoding: chunked\r\n\r\n"
        self._observe_reply(head)
        self.out.append(head)
        if request.method != b"HEAD":
            self._start_turn()
            self.answer_chunks(self._framed(chunks, request.is_old, closes))
        elif closes:
            self.closing, self.close_reason = True, "normal"

    def _framed(self, chunks: Iterator[bytes], is_old: bool, closes: bool) -> Iterator[bytes]:
        for chunk in chunks:
            yield b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunk and not is_old else chunk
        if closes:
            self.closing, self.close_reason = True, "normal"
        yield b"" if is_old else b"0\r\n\r\n"

    def count_rejected_write(self) -> None:
        """Count a write that the journal rejects."""
        if self.context.journal is not None:
            self.context.journal.refusals += 1

    def _answer_refused(self) -> None:
        self._reply(HttpRequest(b"", b"", has_keep_alive=False), problem_reply(507, NOT_SAVED_DETAIL))

    def _refusal_of(self, reply: bytes) -> bytes | None:
        """Return the reply that a write was not saved. Replies are counted by the pieces of `out` that begin one."""
        if sum(piece.startswith(b"HTTP/1.1 ") for piece in self.out) != 1 or not reply.startswith(b"HTTP/1.1 "):
            return None
        refusal = problem_reply(507, NOT_SAVED_DETAIL)
        head = head_of(refusal, self._date_line(), self.closing)
        return head + b"Content-Length: %d\r\n\r\n%b" % (len(refusal.body), refusal.body)


def request_of(event: h11.Request) -> HttpRequest:
    """Return a request without its body, from the event of its parser."""
    headers: dict[bytes, bytes] = {}
    for name, value in event.headers:
        before = headers.get(name)
        headers[name] = bytes(value) if before is None else b"%b, %b" % (before, value)
    target = bytes(event.target)
    if not target.startswith(b"/") and (match := ABSOLUTE_TARGET.match(target)):  # as sent to proxies
        headers[b"host"], target = match[1], b"/" + match[2]
    path, _, query = target.partition(b"?")
    options = {option.strip().lower() for option in headers.get(b"connection", b"").split(b",")}
    is_old = event.http_version < b"1.1"
    has_keep_alive = not is_old and b"close" not in options
    return HttpRequest(bytes(event.method), path, query, headers, b"", has_keep_alive, is_old)
