"""A program with a server in it, for the tests of memory: `python -m tests.integration.host_program MEGABYTES`.

It says the server's port, and reads commands from standard input: `hold SIZE` takes 150 MiB in objects of that many
bytes, `drop` gives them back. Each is answered with a line.
"""

import sys

from memcache_kv import Server

MEGABYTE = 1 << 20
HELD_BYTES = 150 * MEGABYTE


def main() -> None:
    """Serve until the end of the input."""
    server = Server(memory_limit=int(sys.argv[1]) * MEGABYTE).start()
    print(server.port, flush=True)
    held: list[bytes] = []
    for line in sys.stdin:
        command, _, size = line.strip().partition(" ")
        held.clear()
        if command == "hold":
            held += (b"x" * int(size) + b"%d" % number for number in range(HELD_BYTES // int(size)))
        print("done", flush=True)
    server.stop()


if __name__ == "__main__":
    main()
