"""Let the processes outside a network without a way out connect to what listens inside it.

`python gateway.py PATH`, started inside: it turns the loopback interface on, and listens at the unix socket PATH. A
process that sends it HOST:PORT gets a socket that is connected there; where nobody listens, the number of the error. So
it sees what TCP shows inside: refused connections, ends and resets.
"""

import contextlib
import errno
import fcntl
import socket
import struct
import sys

READ_FLAGS, SET_FLAGS, IS_UP = 0x8913, 0x8914, 0x1
CONNECT_SECONDS = 10.0


def turn_loopback_on() -> None:
    """Do what `ip link set lo up` does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        found = fcntl.ioctl(any_socket, READ_FLAGS, struct.pack("16sh14x", b"lo", 0))
        _, flags = struct.unpack("16sh14x", found)
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh14x", b"lo", flags | IS_UP))


def hand_out(asking: socket.socket) -> None:
    """Answer one process with a connected socket, or with the number of the error."""
    host, _, port = asking.recv(1000).decode().partition(":")
    try:
        connection = socket.create_connection((host, int(port)), CONNECT_SECONDS)
    except OSError as error:
        asking.send(str(error.errno or errno.ETIMEDOUT).encode())
        return
    with connection:
        connection.setblocking(True)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        socket.send_fds(asking, [b"connected"], [connection.fileno()])


def main(path: str) -> None:
    """Answer one process after the other."""
    turn_loopback_on()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while True:
            asking, _ = listener.accept()
            with asking, contextlib.suppress(ConnectionError):  # of one that did not wait for its answer
                hand_out(asking)


if __name__ == "__main__":
    main(*sys.argv[1:])
