"""Gives celery's tests of its memcached backend an application and a worker, with the server of the fixture.

Their own fixtures start containers for that, so their conftest.py files are left out.
"""

import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

QUEUE = "celery"

containers = sys.modules["pytest_celery"] = ModuleType("pytest_celery")
containers.__dict__.update(
    RESULT_TIMEOUT=60, CeleryBackendCluster=object, CeleryTestSetup=object, MemcachedTestBackend=object
)
"""What the tests import of pytest-celery: a time limit, and names for annotations."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known that their conftest.py would have."""
    config.addinivalue_line("markers", "celery: settings of the application")


@pytest.fixture
def default_worker_app(memcached_proc: Any) -> Any:
    application = import_module("celery").Celery(
        "suite", broker="memory://", backend=f"cache+{memcached_proc.url}/"
    )  # fmt: skip
    application.set_default()
    application.set_current()
    return application


@pytest.fixture
def app(default_worker_app: Any, request: pytest.FixtureRequest) -> Any:
    marker = request.node.get_closest_marker("celery")
    default_worker_app.conf.update(marker.kwargs if marker else {})
    return default_worker_app


@pytest.fixture
def celery_setup(default_worker_app: Any) -> Iterator[SimpleNamespace]:
    start_worker = import_module("celery.contrib.testing.worker").start_worker
    default_worker_app.loader.import_task_module("t.integration.tasks")
    with start_worker(default_worker_app, pool="threads", concurrency=4, perform_ping_check=False):
        yield SimpleNamespace(worker=SimpleNamespace(worker_queue=QUEUE))
