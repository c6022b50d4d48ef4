"""The addresses that -l takes."""

import pytest

from memcache_kv.errors import ListenError
from memcache_kv.server.binding import split_address

PORT = 11211


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1", "127.0.0.1", PORT),
        ("127.0.0.1:5", "127.0.0.1", 5),
        ("127.0.0.1:", "127.0.0.1", PORT),
        ("localhost:65535", "localhost", 65535),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("::1", "::1", PORT),
        ("::", "::", PORT),
        ("[::1]", "::1", PORT),
        ("[::1]:5", "::1", 5),
        ("*", "", PORT),
        ("*:5", "", 5),
        ("name.example", "name.example", PORT),
    ],
)
def test_an_address_is_split_into_host_and_port(text: str, host: str, port: int) -> None:
    assert split_address(text, PORT) == (host, port)


@pytest.mark.parametrize(
    "text",
    ["[::1", "[::1]5", "[::1]x:5", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1", "h:٣", "[::1]:99999", "h:1.5",
     "h:" + "9" * 5000],
)  # fmt: skip
def test_what_is_no_address_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ListenError) as caught:
        split_address(text, PORT)
    assert "\n" not in str(caught.value)
