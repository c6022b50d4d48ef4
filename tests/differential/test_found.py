"""What the streams have found in ours: each request with memcached 1.6.45's reply."""

import pytest

from tests.differential.peers import Inside

FOUND = {
    "white space ends a number": (b"set a 0\t 0\x0bx 1\r\nx\r\nset a 0\x00 0\r 1\r\nx\r\n", b"STORED\r\nSTORED\r\n"),
    "bad client flags leave the text of an earlier bad flag": (
        b"ms a 1 Ex Fx\r\n0\r\n",
        b"CLIENT_ERROR bad token in command line format\r\n",
    ),
    "bad client flags alone": (b"ms a 1 Fx\r\n0\r\n", b"CLIENT_ERROR bad command line format\r\n"),
    "a bare mg is a read": (b"ms a 1\r\nx\r\nmg a h u\r\nmg a\r\nmg a h\r\n", b"HD\r\nHD h0\r\nHD\r\nHD h1\r\n"),
    "a get is a read": (
        b"ms a 1 \r\nx\r\nmg a h u\r\nget a\r\nmg a h\r\n",
        b"HD\r\nHD h0\r\nVALUE a 0 1\r\nx\r\nEND\r\nHD h1\r\n",
    ),
    "a replacing ms does not fill in": (b"ms a 1 MR N0\r\n0\r\n", b"NS\r\n"),
    "an appending ms fills in": (b"ms a 1 MA N0\r\n0\r\n", b"HD\r\n"),
    "no item has the id 0 for mg": (b"mg a v C0 N0\r\n", b"VA 0 W\r\n\r\n"),
    "no item has the id 0 for md": (b"ms a 1\r\nx\r\nmd a C0 I\r\nmd a C0\r\n", b"HD\r\nEX\r\nEX\r\n"),
}


@pytest.mark.parametrize(("request_bytes", "reply"), FOUND.values(), ids=FOUND.keys())
def test_what_was_found_is_answered_as_memcached_does(request_bytes: bytes, reply: bytes) -> None:
    assert Inside().ask([request_bytes], b"") == reply
