"""What makes the plugin's fixtures, and more of them with other options."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from memcache_kv.testing.cluster import MemcachedCluster, NodePool
    from memcache_kv.testing.memcached import Memcached
    from memcache_kv.testing.process import MemcachedProc

# Nothing of the server is imported before a test uses a fixture: pytest imports this module in every run.

PytestFixture: TypeAlias = Any
"""A fixture, for a variable of a test module or a conftest.py, whose name becomes the fixture's."""
USED = pytest.StashKey[list["Memcached"]]()
"""What a test uses, for the report if it fails."""


def memcached_proc(
    executable: str | None = None,
    host: str | None = None,
    port: int | None = None,
    args: str | None = None,
    timeout: float | None = None,
    clock: str | None = None,
) -> PytestFixture:
    """Return a fixture of the scope session: a server for this run, or for this worker of pytest-xdist.

    executable: the memcached, or memcache-kv, to run as a process of its own; an empty text, and the default, is a
    server in pytest's process. host, port: the address for clients; by default a free port of 127.0.0.1. args: more
    flags for the server. timeout: how many seconds a program may take to start. clock: "patched", and the server in
    pytest's process follows freezegun and time-machine, or "real". None means the option of the command line or the
    ini file.
    """

    @pytest.fixture(scope="session")
    def memcached_proc_fixture(request: pytest.FixtureRequest) -> Iterator[MemcachedProc]:
        """A memcached for all tests of the run."""
        from memcache_kv.testing.making import ProcArguments, ProcMaker

        given = ProcArguments(executable, host, port, args, timeout, clock)
        yield from _run(lambda: ProcMaker(request.config, given).make())

    return memcached_proc_fixture


def memcached_noproc(
    host: str | None = None, port: int | None = None, timeout: float | None = None
) -> PytestFixture:  # fmt: skip
    """Return a fixture of the scope session: a server that runs already. Tests empty it, and do not stop it.

    host, port: where it is; 11211 of 127.0.0.1 by default. timeout: how many seconds it may take to answer.
    """

    @pytest.fixture(scope="session")
    def memcached_noproc_fixture(
        request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[MemcachedProc]:
        """A memcached that runs already."""
        from memcache_kv.testing.making import ProcArguments, ProcMaker

        given = ProcArguments(host=host, port=port, timeout=timeout)
        folder = tmp_path_factory.getbasetemp().parent
        yield from _run(lambda: ProcMaker(request.config, given).running(folder))

    return memcached_noproc_fixture


def memcached(process_fixture_name: str = "memcached_proc") -> PytestFixture:
    """Return a fixture of the scope function: a Memcached that is empty when the test begins.

    process_fixture_name: the fixture of the server, one that `memcached_proc` or `memcached_noproc` has returned.
    """

    @pytest.fixture
    def memcached_fixture(request: pytest.FixtureRequest) -> Iterator[Memcached]:
        """A memcached that is empty when the test begins."""
        from memcache_kv.testing.memcached import Memcached

        proc: MemcachedProc = request.getfixturevalue(process_fixture_name)
        with proc.turns, Memcached(proc, lambda: request.getfixturevalue("tmp_path")) as memcached:
            _note(request, memcached)
            yield memcached

    return memcached_fixture


def memcached_nodes(
    executable: str | None = None, args: str | None = None, timeout: float | None = None, clock: str | None = None
) -> PytestFixture:
    """Return a fixture of the scope session: the servers of clusters. The arguments are those of `memcached_proc`."""

    @pytest.fixture(scope="session")
    def memcached_nodes_fixture(request: pytest.FixtureRequest) -> Iterator[NodePool]:
        """The servers of `memcached_cluster`, as many as one test has needed so far."""
        from memcache_kv.testing.cluster import NodePool
        from memcache_kv.testing.making import ProcArguments, ProcMaker

        given = ProcArguments(executable, port=0, args=args, timeout=timeout, clock=clock)
        pool = NodePool(ProcMaker(request.config, given).make)
        yield pool
        pool.stop()

    return memcached_nodes_fixture


def memcached_cluster(nodes_fixture_name: str = "memcached_nodes") -> PytestFixture:
    """Return a fixture of the scope function: a function that returns a MemcachedCluster of so many empty nodes.

    nodes_fixture_name: the fixture of the servers, one that `memcached_nodes` has returned.
    """

    @pytest.fixture
    def memcached_cluster_fixture(request: pytest.FixtureRequest) -> Iterator[Callable[[int], MemcachedCluster]]:
        """A function that returns so many memcacheds."""
        from memcache_kv.testing.cluster import cluster_maker

        pool: NodePool = request.getfixturevalue(nodes_fixture_name)
        with cluster_maker(
            pool, lambda: request.getfixturevalue("tmp_path"), lambda node: _note(request, node)
        ) as make:
            yield make

    return memcached_cluster_fixture


def _run(make: Callable[[], MemcachedProc]) -> Iterator[MemcachedProc]:
    from memcache_kv.testing.servers.backing import ServerFailed

    failure = ""
    try:
        proc = make()
        proc.start()
    except ServerFailed as error:
        failure = str(error)
    if failure:
        pytest.fail(failure, pytrace=False)
    yield proc
    proc.stop()


def _note(request: pytest.FixtureRequest, memcached: Memcached) -> None:
    request.node.stash.setdefault(USED, []).append(memcached)
