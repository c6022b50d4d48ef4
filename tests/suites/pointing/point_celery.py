"""Gives celery's tests of its memcached backend an application and a worker, with the server of the fixture.

Their own fixtures start containers for them, so their conftest.py files are left out.
"""

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

QUEUE = "celery"

pytest_celery = sys.modules["pytest_celery"] = ModuleType("pytest_celery")
pytest_celery.__dict__.update(
    RESULT_TIMEOUT=60, CeleryBackendCluster=object, CeleryTestSetup=object, MemcachedTestBackend=object
)
"""What the tests import of it: a time limit, and names for annotations."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "celery: settings of the application")


@pytest.fixture
def default_worker_app(memcached_proc: Any) -> Any:
    from celery import Celery

    application = Celery(
        "suite", broker="memory://", backend="cache+memcached://{}:{}/".format(*memcached_proc.address)
    )
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
    from celery.contrib.testing.worker import start_worker

    default_worker_app.loader.import_task_module("t.integration.tasks")
    with start_worker(default_worker_app, pool="threads", concurrency=4, perform_ping_check=False):
        yield SimpleNamespace(worker=SimpleNamespace(worker_queue=QUEUE))
