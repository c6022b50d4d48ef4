"""Runs Django's tests of its memcached backends, by its own runner, with as many servers in this process.

What they need where memcached is to be used instead are its addresses, in the variables.
"""

import os
import runpy
import sys
from contextlib import ExitStack
from importlib.util import find_spec

from memcache_kv import Server

SERVERS = {"pymemcache": "PYMEMCACHE_SERVER", "pylibmc": "PYLIBMC_SERVER"}
"""The clients, and the variables with the addresses of their servers."""
CLASSES = ("cache.tests.PyMemcacheCacheTests", "cache.tests.PyLibMCCacheTests")

with ExitStack() as running:
    for client, variable in SERVERS.items():
        if find_spec(client) is None:
            os.environ.pop(variable, None)  # Django skips its tests
        elif variable not in os.environ:
            host, port = running.enter_context(Server()).address
            os.environ[variable] = f"{host}:{port}"
    sys.argv = ["runtests.py", "--settings=django_settings", "--parallel", "4", "-v", "2", *CLASSES]
    sys.path.insert(0, os.getcwd())
    runpy.run_path("runtests.py", run_name="__main__")
