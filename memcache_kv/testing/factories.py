"""What makes the plugin's fixtures, and more of them with other options."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from memcache_kv.testing.plugin_options import DEFAULT_HOST, DEFAULT_TIMEOUT_SECONDS, chosen, port_number

if TYPE_CHECKING:
    from memcache_kv.testing.cluster import MemcachedCluster, NodePool
    from memcache_kv.testing.memcached import Memcached
    from memcache_kv.testing.process import MemcachedProc
    from memcache_kv.testing.servers.backing import BackingServer

# Nothing of the server is imported before a test uses a fixture: pytest imports this module in every run.

PytestFixture: TypeAlias = Any
"""A fixture, for a variable of a test module or a conftest.py, whose name becomes the fixture's."""
USED = pytest.StashKey[list["Memcached"]]()
"""What a test uses, for the report if it fails."""
RUNNING_PORT = 11211


def memcached_proc(
    executable: str | None = None,
    host: str | None = None,
    port: int | None = None,
    args: str | None = None,
    timeout: float | None = None,
) -> PytestFixture:
    """Return a fixture of the scope session: a server for this run, or for this worker of pytest-xdist.

    executable: the memcached, or memcache-kv, to run as a process of its own; an empty text, and the default, is a
    server in pytest's process. host, port: the address for clients; by default a free port of 127.0.0.1. args: more
    flags for the server. timeout: how many seconds a program may take to start. None means the option of the command
    line or the ini file.
    """

    @pytest.fixture(scope="session")
    def memcached_proc_fixture(request: pytest.FixtureRequest) -> Iterator[MemcachedProc]:
        """A memcached for all tests of the run."""
        yield from _run(_make_proc(request.config, executable, host, port, args, timeout))

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
        from memcache_kv.testing.process import MemcachedProc
        from memcache_kv.testing.servers.elsewhere import ServerElsewhere
        from memcache_kv.testing.turns import Turns

        config = request.config
        place = chosen(config, "host", host, str, DEFAULT_HOST), chosen(config, "port", port, port_number, RUNNING_PORT)
        server = ServerElsewhere(place[0], place[1], _timeout(config, timeout))
        shared = tmp_path_factory.getbasetemp().parent / "memcached.turns" if _workers(config) > 1 else None
        yield from _run(MemcachedProc(server, DEFAULT_HOST, 0, Turns(shared)))

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
        with proc.turns, Memcached(proc) as memcached:
            _note(request, memcached)
            yield memcached

    return memcached_fixture


def memcached_nodes(
    executable: str | None = None, args: str | None = None, timeout: float | None = None
) -> PytestFixture:  # fmt: skip
    """Return a fixture of the scope session: the servers of clusters. The arguments are those of `memcached_proc`."""

    @pytest.fixture(scope="session")
    def memcached_nodes_fixture(request: pytest.FixtureRequest) -> Iterator[NodePool]:
        """The servers of `memcached_cluster`, as many as one test has needed so far."""
        from memcache_kv.testing.cluster import NodePool

        pool = NodePool(lambda: _make_proc(request.config, executable, DEFAULT_HOST, 0, args, timeout))
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
        with cluster_maker(pool, lambda node: _note(request, node)) as make:
            yield make

    return memcached_cluster_fixture


def _make_proc(
    config: pytest.Config,
    executable: str | None,
    host: str | None,
    port: int | None,
    args: str | None,
    timeout: float | None,
) -> MemcachedProc:
    from memcache_kv.testing.process import MemcachedProc
    from memcache_kv.testing.servers.in_process import ServerInProcess
    from memcache_kv.testing.servers.program import ServerProgram
    from memcache_kv.testing.turns import Turns

    program, flags = chosen(config, "exec", executable, str, ""), chosen(config, "args", args, str, "")
    server: BackingServer = (
        ServerProgram(program, flags, _timeout(config, timeout)) if program else ServerInProcess(flags)
    )
    fixed = chosen(config, "port", port, port_number, 0)
    if fixed and _workers(config) > 1:
        raise pytest.UsageError(
            f"each worker of pytest-xdist has a memcached of its own, so they can't all have the port {fixed}: leave "
            "it out, and take it from the fixture"
        )
    return MemcachedProc(server, chosen(config, "host", host, str, DEFAULT_HOST), fixed, Turns(None))


def _timeout(config: pytest.Config, argument: float | None) -> float:
    return chosen(config, "timeout", argument, float, DEFAULT_TIMEOUT_SECONDS)


def _workers(config: pytest.Config) -> int:
    """Return how many processes pytest-xdist has; 1 without it."""
    return int(getattr(config, "workerinput", {}).get("workercount", 1))


def _run(proc: MemcachedProc) -> Iterator[MemcachedProc]:
    from memcache_kv.testing.servers.backing import ServerFailed

    try:
        proc.start()
    except ServerFailed as error:
        pytest.fail(str(error), pytrace=False)
    yield proc
    proc.stop()


def _note(request: pytest.FixtureRequest, memcached: Memcached) -> None:
    request.node.stash.setdefault(USED, []).append(memcached)
