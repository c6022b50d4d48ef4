"""A program that forks while it has a server and a store: `python -m tests.api.fork_program DIRECTORY HOW`.

HOW is `os.fork` or `multiprocessing`. Says nothing and ends with status 0 if all is as it should be.
"""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from pymemcache.client.base import Client  # type: ignore[import-untyped]

from memcache_kv import JournalLocked, NotRunning, Server, Store
from memcache_kv.server.listener import MemcacheServer
from tests.ports import bind_as_told


class Child:
    """A forked child that does one thing, and then lives until it is told to end."""

    def __init__(self, how: str, task: Callable[[], None]) -> None:
        self._ours, theirs = socket.socketpair()

        def work() -> None:
            self._ours.close()
            task()
            theirs.sendall(b"done")
            theirs.recv(1)

        if how == "os.fork":
            self._pid = os.fork()
            if not self._pid:
                work()
                sys.exit()
        else:
            multiprocessing.get_context("fork").Process(target=work).start()
        theirs.close()
        assert self._ours.recv(4) == b"done", "the child has failed"

    def end(self) -> None:
        """Let it end."""
        self._ours.close()


def main() -> None:
    """Fork, and look at what parent and child have."""
    directory, how = Path(sys.argv[1]), sys.argv[2]
    MemcacheServer.server_bind = bind_as_told  # type: ignore[method-assign, assignment]
    server = Server(journal=directory / "server").start()
    store = Store(journal=directory / "store").open()
    server.store.set("key", b"parent's")
    store.set("key", b"parent's")
    client = Client(server.address)
    assert client.get("key") == b"parent's"

    kept = server.store

    def look() -> None:
        assert not server.is_running
        for items in (server.store, kept, store):
            try:
                items.get("key")
                raise AssertionError("the child uses the parent's items")
            except NotRunning:
                pass
        server.stop()
        store.close()
        for locked in (Store(journal=directory / "store"), Server(journal=directory / "server")):
            try:
                locked.__enter__()
                raise AssertionError("the child has the parent's journal")
            except JournalLocked:
                pass
        with closing(Client(server_address)) as own_client:
            assert own_client.get("key") == b"parent's", "the parent goes on"
        own = Server(journal=directory / "child").start()
        own.store.set("key", b"child's")
        with closing(Client(own.address)) as own_client:
            assert own_client.get("key") == b"child's"

    server_address = server.address
    child = Child(how, look)
    assert client.get("key") == b"parent's"
    client.close()
    server.stop()
    store.close()
    with server:  # on the same port, with the same journal, while the child lives
        assert server.address == server_address
        assert server.store.get("key") == b"parent's"
        grandchild = Child(how, lambda: start_again(server, directory / "again"))
        grandchild.end()
    with store:
        assert store.get("key") == b"parent's"
    child.end()


def start_again(server: Server, path: Path) -> None:
    """Start the parent's server in the child as one of its own, on another port."""
    parents_port = server.settings.port
    server.settings = server.settings._replace(journal=path)
    with server:
        assert server.store.get("key") is None
        assert server.port != parents_port


if __name__ == "__main__":
    main()
