"""Clusters for the tests of deploy/cluster/."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.cluster import NODES, Cluster

RENDERING = {"test_kubernetes.py", "test_smoke_test.py", "test_workflow.py"}
"""Long tests that need the extra `deploy`."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file whose tests are left out anyway, as not everybody has what it needs."""
    return True if collection_path.name in RENDERING and config.option.markexpr == "not long" else None


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes that are not started yet, in a network of their own."""
    with Cluster(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes with their journals, with twemproxy and nginx before them."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as made:
        made.start_nodes(*NODES)
        made.start_twemproxy()
        made.start_nginx()
        yield made


@pytest.fixture
def store(shared_cluster: Cluster) -> Cluster:
    """The shared nodes, running and empty."""
    shared_cluster.start_nodes(*shared_cluster.missing_nodes())  # of a test that failed
    shared_cluster.empty()
    return shared_cluster
