"""Two processes that run tests never take the same port."""

import socket
from contextlib import closing

import pytest

from tests.ports import BLOCK_PORTS, PortBlock, free_port


def test_two_blocks_share_no_port() -> None:
    with closing(PortBlock()) as first, closing(PortBlock()) as second:
        found = [{block.next_free("127.0.0.1") for _ in range(100)} for block in (first, second)]
    assert not found[0] & found[1]


def test_a_port_in_use_is_passed_over() -> None:
    with closing(PortBlock()) as block, socket.create_server(("127.0.0.1", block.next_free("127.0.0.1"))) as server:
        port = server.getsockname()[1]
        assert port not in {block.next_free("127.0.0.1") for _ in range(BLOCK_PORTS)}


def test_an_address_that_is_not_ours_is_an_error() -> None:
    with pytest.raises(OSError):
        free_port("192.0.2.1")
