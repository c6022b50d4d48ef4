"""The last commands that a server saw, as lines for the report of a failed test."""

from __future__ import annotations

from collections.abc import Sequence

from memcache_kv.protocol.binary.frames import HEAD_BYTES, REPLY_MAGIC, REQUEST_MAGIC, TEXTS, Status
from memcache_kv.traffic.conversation import Call

SHOWN_CALLS = 30
"""How many calls a report has."""
SHOWN_CHARACTERS = 72
"""How many characters of a request or a reply it has."""
WIDEST_REQUEST = 50
"""Up to this width the replies stand below one another."""


def call_lines(calls: Sequence[Call], began_at: float) -> str:
    """Return the last calls, a line each: seconds since a moment, the connection, the request and the reply.

    began_at: the moment, in monotonic seconds.
    """
    last = calls[-SHOWN_CALLS:]
    requests = [_shown(call.request.data, _binary_request(call)) for call in last]
    width = max((len(text) for text in requests if len(text) <= WIDEST_REQUEST), default=0)
    lines = [
        f"{call.asked_at - began_at:8.3f} s  #{call.connection}  {text:{width}}  ->  {_reply_of(call)}"
        for call, text in zip(last, requests, strict=True)
    ]
    count = f"the last {len(last)} of {len(calls)}" if len(calls) > len(last) else len(calls)
    return "\n".join([f"commands: {count}; seconds since the test began, #connection, command -> reply", *lines])


def _reply_of(call: Call) -> str:
    if call.reply:
        return _shown(call.reply, _binary_reply(call.reply))
    return "(no reply)" if call.request.has_reply else "(none was asked for)"


def _shown(data: bytes, packet: str | None) -> str:
    """Return wire bytes as readable text: what is known about a packet, or else the lines of the text protocol."""
    if packet is None:
        text = " | ".join(data.decode("latin-1").removesuffix("\r\n").split("\r\n"))
        packet = "".join(one if one.isprintable() and one.isascii() else f"\\x{ord(one):02x}" for one in text)
    if len(packet) <= SHOWN_CHARACTERS:
        return packet
    return f"{packet[:SHOWN_CHARACTERS]}… ({len(data)} bytes)"


def _binary_request(call: Call) -> str | None:
    data = call.request.data
    if len(data) < HEAD_BYTES or data[0] != REQUEST_MAGIC:
        return None
    keys = " ".join(key.decode("ascii", "backslashreplace") for key in call.request.keys)
    start = HEAD_BYTES + data[4] + int.from_bytes(data[2:4], "big")
    return _with_value(f"{call.request.command} {keys}".rstrip(), data[start:])


def _binary_reply(data: bytes) -> str | None:
    if len(data) < HEAD_BYTES or data[0] != REPLY_MAGIC:
        return None
    status = int.from_bytes(data[6:8], "big")
    if status == Status.SUCCESS:
        return _with_value("success", data[HEAD_BYTES + data[4] + int.from_bytes(data[2:4], "big") :])
    known = next((text for each, text in TEXTS.items() if each == status), b"error")
    return f"{known.decode()} (status 0x{status:02x})"


def _with_value(text: str, value: bytes) -> str:
    return f"{text} | {value.decode('ascii', 'backslashreplace')}" if value else text
