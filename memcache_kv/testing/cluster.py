"""Several memcacheds for one test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memcache_kv.testing.memcached import Memcached
from memcache_kv.testing.process import MemcachedProc

if TYPE_CHECKING:
    from pymemcache.client.hash import HashClient  # type: ignore[import-untyped]


class MemcachedCluster(Sequence[Memcached]):
    """The nodes that the fixture `memcached_cluster` returns, as a sequence of Memcached. All are empty at first."""

    def __init__(self, nodes: Sequence[Memcached], stack: contextlib.ExitStack) -> None:
        self.nodes = tuple(nodes)
        self._stack = stack

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The host and the port of each node."""
        return [node.address for node in self.nodes]

    @property
    def locations(self) -> list[str]:
        """The addresses as `HOST:PORT`."""
        return [node.location for node in self.nodes]

    def client(self, **options: Any) -> HashClient:
        """Return a client of pymemcache that spreads the keys over the nodes. It is closed at the end of the test.

        options: those of pymemcache.client.hash.HashClient; changes wait for the reply (`default_noreply=False`).
        """
        from pymemcache.client.hash import HashClient

        client = HashClient(self.addresses, **{"default_noreply": False, **options})
        self._stack.callback(client.close)
        return client

    def django_cache(self, backend: str = "pymemcache", **settings: Any) -> dict[str, Any]:
        """Return settings of a cache for Django's CACHES, as `Memcached.django_cache` does, with all nodes."""
        return self.nodes[0].django_cache(backend, **{"LOCATION": self.locations, **settings})

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, index: Any) -> Any:
        return self.nodes[index]


class NodePool:
    """The servers of a run's clusters, started when a test first needs so many. make: returns one more."""

    def __init__(self, make: Callable[[], MemcachedProc]) -> None:
        self._make = make
        self._procs: list[MemcachedProc] = []

    def take(self, count: int) -> list[MemcachedProc]:
        """Return so many servers, always the same ones. Raises ServerFailed."""
        while len(self._procs) < count:
            proc = self._make()
            proc.start()
            self._procs.append(proc)
        return self._procs[:count]

    def stop(self) -> None:
        """Stop all servers, the others even if one can't be stopped."""
        with contextlib.ExitStack() as stack:
            for proc in self._procs:
                stack.callback(proc.stop)


@contextlib.contextmanager
def cluster_maker(
    pool: NodePool, folder: Callable[[], Path], report: Callable[[Memcached], None]
) -> Iterator[Callable[[int], MemcachedCluster]]:
    """Give a test the function that returns its nodes. folder: for files of the test; report: called with each node."""
    with contextlib.ExitStack() as stack:

        def make(count: int) -> MemcachedCluster:
            nodes = []
            for proc in pool.take(count):
                nodes.append(stack.enter_context(Memcached(proc, folder)))
                report(nodes[-1])
            return MemcachedCluster(nodes, stack)

        yield make
