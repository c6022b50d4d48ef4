"""The page for Prometheus: counts and states of the server in its text format.

The names are those of the exporter for memcached, so that its dashboards and alerts work.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Protocol

from memcache_kv.compiled import ACCELERATED
from memcache_kv.stats.report import ReportedServer
from memcache_kv.stats.settings_report import ConfiguredServer
from memcache_kv.version import PROTOCOL_VERSION, VERSION

METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class MeasuredServer(ReportedServer, ConfiguredServer, Protocol):
    """The parts of a server that the page needs."""


def metrics_page(server: MeasuredServer | None) -> Iterator[bytes]:
    """Yield the page in pieces; an empty one gives way to other requests after a step of the work.

    server: None while the items are loaded, when clients can't connect yet. Only the thread of the admin listener
    iterates, and never over two pages in turns unless two clients ask at once.
    """
    yield (
        "# HELP memcached_up Whether clients can connect.\n"
        "# TYPE memcached_up gauge\n"
        f"memcached_up {int(server is not None)}\n"
        "# HELP memcached_version The version of memcached whose behaviour the server has.\n"
        "# TYPE memcached_version gauge\n"
        f'memcached_version{{version="{PROTOCOL_VERSION}"}} 1\n'
        "# HELP memcache_kv_build_info The server's own version, Python's, and whether compiled modules are in use.\n"
        "# TYPE memcache_kv_build_info gauge\n"
        f'memcache_kv_build_info{{version="{VERSION}",python="{platform.python_version()}",'
        f'compiled="{str(ACCELERATED).lower()}"}} 1\n'
    ).encode()
