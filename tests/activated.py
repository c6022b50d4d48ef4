"""The real program with sockets that it inherits, as systemd passes them."""

import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

from tests.program import Program

STARTER = """
import os, sys
count = int(sys.argv[1])
fds = [os.dup(int(word)) for word in sys.argv[2 : 2 + count]]
spare = [os.dup2(fd, 200 + index) for index, fd in enumerate(fds)]
for index, fd in enumerate(spare):
    os.dup2(fd, 3 + index)
os.closerange(3 + count, 300)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(count)
os.execv(sys.executable, [sys.executable, "-m", "memcache_kv", *sys.argv[2 + count :]])
"""


class Activated(Program):
    """A server started with these sockets, of which it owns copies. names: LISTEN_FDNAMES."""

    def __init__(self, sockets: Sequence[socket.socket], names: str, *arguments: str, **variables: str) -> None:
        self.pass_fds = tuple(sock.fileno() for sock in sockets)
        super().__init__(*arguments, LISTEN_FDNAMES=names, **variables)

    def command(self, *arguments: str) -> list[str]:
        fds = [str(fd) for fd in self.pass_fds]
        return [sys.executable, "-c", STARTER, str(len(fds)), *fds, *arguments]


def listening(address: str | tuple[str, int] = ("127.0.0.1", 0)) -> socket.socket:
    """A socket that listens, on an IP address, a path or an abstract name (@NAME), as a socket unit makes it."""
    if isinstance(address, tuple):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    else:
        family = socket.AF_UNIX
        address = address.replace("@", "\0", 1) if address.startswith("@") else address
    sock = socket.socket(family)
    try:
        if family == socket.AF_INET6:
            with suppress(OSError):
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # systemd's BindIPv6Only=default
        sock.bind(address)
        sock.listen()
    except BaseException:
        sock.close()
        raise
    return sock
