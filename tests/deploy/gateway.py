"""Let the processes outside a network without a way out connect to what listens inside it.

`python gateway.py FOLDER HOST:PORT…`, started inside: it turns the loopback interface on, and makes a unix socket
FOLDER/HOST:PORT for each address. A connection to one is forwarded. Where nobody listens inside, it is closed.
"""

import asyncio
import fcntl
import socket
import struct
import sys

READ_FLAGS, SET_FLAGS, IS_UP = 0x8913, 0x8914, 0x1


def turn_loopback_on() -> None:
    """Do what `ip link set lo up` does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        found = fcntl.ioctl(any_socket, READ_FLAGS, struct.pack("16sh14x", b"lo", 0))
        _, flags = struct.unpack("16sh14x", found)
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh14x", b"lo", flags | IS_UP))


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until one side closes; then close the other."""
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def forward(address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forward one connection to an address inside."""
    host, _, port = address.partition(":")
    try:
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
    except OSError:
        writer.close()
        return
    await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))


async def main(folder: str, *addresses: str) -> None:
    """Serve all addresses."""
    turn_loopback_on()
    for address in addresses:

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str = address) -> None:
            await forward(address, reader, writer)

        await asyncio.start_unix_server(accept, f"{folder}/{address}")
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
