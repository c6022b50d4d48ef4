"""The suites, each with the version that was looked at."""

from __future__ import annotations

import os

from tests.suites.suite import Suite

EVERYTHING = os.environ.get("SUITES") == "all"
"""With SUITES=all also those tests that take minutes of waiting."""

PYTEST = ("pytest", "pytest-xdist")
PYLIBMC = "pylibmc>=1.6.3; python_version < '3.12'"
"""There are no wheels for later ones. Its tests are skipped there."""
IN_FOUR_PROCESSES = ("-m", "pytest", "-q", "-n", "4", "-p", "memcache_kv.testing.plugin")

SUITES = {
    "Django": Suite(
        project="django",
        version="5.2.19",
        needs=("asgiref", "pymemcache", "sqlparse", "tblib", PYLIBMC),
        words=("-m", "run_django"),
        folder="tests",
        servers=("PYMEMCACHE_SERVER", "PYLIBMC_SERVER"),
        parts="django/|tests/cache/|tests/[^/]*$",
        least=58,
    ),
    "pymemcache": Suite(
        project="pymemcache",
        version="4.0.0",
        needs=(*PYTEST, "gevent"),
        words=(
            *IN_FOUR_PROCESSES,
            *("-p", "point_pymemcache", "-o", "addopts="),
            *("-m", "integration", "pymemcache/test/test_integration.py"),
        ),
        least=200,
    ),
    "dogpile.cache": Suite(
        project="dogpile.cache",
        version="1.5.0",
        needs=(
            *PYTEST,
            *("decorator", "mako", "stevedore"),
            *("pymemcache", "python-binary-memcached", "python-memcached", PYLIBMC),
        ),
        words=(
            *IN_FOUR_PROCESSES,
            *("-p", "point_dogpile"),
            *([] if EVERYTHING else ["-m", "not time_intensive"]),
            "tests/cache/test_memcached_backend.py",
        ),
        least=250,
        by_speed="WithTimeoutTest::",  # their locks end after a second
    ),
    "celery": Suite(
        project="celery",
        version="5.7.0",
        needs=(*PYTEST, "celery[pymemcache,pydantic]==5.7.0"),
        words=(
            *IN_FOUR_PROCESSES,
            *("-p", "point_celery", "--noconftest"),
            *("t/smoke/tests/test_memcached_backend.py", "t/integration/test_cache_backend.py"),
        ),
        least=5,
    ),
    "Flask-Caching": Suite(
        project="flask-caching",
        version="2.5.1",
        needs=(*PYTEST, "cachelib", "flask[async]", "flit-core", PYLIBMC),
        words=(
            *IN_FOUR_PROCESSES,
            *("-p", "point_flask_caching", "--noconftest", "-k", "TestMemcachedCache"),
            "tests/test_backend_cache.py",
        ),
        source="src",
        least=16,
    ),
    "aiomcache": Suite(
        project="aiomcache",
        version="0.8.1",  # the last with tests in its source distribution
        needs=(*PYTEST, "pytest-asyncio", "python-memcached"),
        words=(
            *IN_FOUR_PROCESSES,
            *("-p", "point_aiomcache", "-o", "asyncio_mode=auto", "-o", "python_files=*_test.py"),
        ),
        least=66,
        by_speed="test_acquire_task_cancellation$",  # somebody must get a connection within one to two seconds
    ),
}
"""By the names that people know. The longest comes first."""
