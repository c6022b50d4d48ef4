"""Ports for servers that must be told where to listen, so that no two processes that run tests take the same one."""

import fcntl
import itertools
import os
import socket
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from memcache_kv.server.listener import MemcacheServer

FIRST_PORT, BLOCK_PORTS, BLOCKS = 10_000, 500, 40
"""Below the ports that systems give to outgoing connections."""


class PortBlock:
    """Ports that belong to this process until `close`, or until it ends. Other processes that run tests have others."""

    def __init__(self) -> None:
        self._fd, number = _take_block()
        first = FIRST_PORT + number * BLOCK_PORTS
        self._numbers = itertools.cycle(range(first, first + BLOCK_PORTS))

    def close(self) -> None:
        """Give the block back."""
        os.close(self._fd)

    def next_free(self, host: str) -> int:
        """Return the next port that nobody uses on an address. Raises OSError if the address can't be used."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        for port in itertools.islice(self._numbers, BLOCK_PORTS):
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                try:
                    probe.bind((host, port))
                except OSError as error:
                    failure = error
                else:
                    return port
        raise failure


def _take_block() -> tuple[int, int]:
    """Lock the file of a block that no other process has; return its descriptor and the block's number."""
    for number in range(BLOCKS):
        try:
            fd = os.open(
                Path(tempfile.gettempdir()) / f"memcache_kv-test-ports-{number}", os.O_RDWR | os.O_CREAT, 0o600
            )
        except OSError:  # another user has it
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another process has it
            os.close(fd)
            continue
        return fd, number
    raise AssertionError(f"{BLOCKS} processes run tests already")


@cache
def _block_of_process() -> PortBlock:
    return PortBlock()


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody listens on, and that no other process that runs tests takes."""
    return _block_of_process().next_free(host)


def bind_as_told(listener: MemcacheServer, bind: Callable[[MemcacheServer], None] = MemcacheServer.server_bind) -> None:
    """Bind a listener; one without a port gets one of this process, instead of one that the system chooses.

    For a server that is started again: meanwhile the system may give the port it chose to anybody's connection.
    """
    if not listener.server_address[1]:
        host = str(listener.server_address[0])
        listener.server_address = (host, free_port(host))
    bind(listener)
