"""Runs Django's tests of its memcached backends. Without addresses of servers, each backend gets one in this process."""

import os
import runpy
import sys
from contextlib import ExitStack

from django_settings import BACKENDS
from memcache_kv import Server

PROCESSES = "4"


def arguments() -> list[str]:
    """What Django's runner is told."""
    labels = [f"cache.tests.{backend}Tests" for backend in BACKENDS]
    return ["runtests.py", "--settings=django_settings", "--parallel", PROCESSES, "-v", "2", *labels]


with ExitStack() as servers:
    for variable in BACKENDS.values():
        if variable not in os.environ:
            os.environ[variable] = "{}:{}".format(*servers.enter_context(Server()).address)
    sys.argv = arguments()
    sys.path.insert(0, os.getcwd())
    runpy.run_path("runtests.py", run_name="__main__")
