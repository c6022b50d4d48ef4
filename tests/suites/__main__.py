"""Run all suites with each memcached that is named and with ours, and write the results into the docs.

SUITES=all python -m tests.suites /usr/bin/memcached /opt/memcached-1.6.45/memcached
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.suites.page import PAGE, Row, with_rows
from tests.suites.suite import TRIES, Environment, Results
from tests.suites.suites import SUITES

PROGRAM = Path(sys.executable).with_name("memcache-kv")


def results_with(environment: Environment, executable: str | None) -> Results:
    """Run a suite with a program, or with our server in the processes of its tests: again if it was the machine."""
    for _ in range(TRIES):
        with environment.started_with(executable) if executable else environment.started() as run:
            results = run.results()
        if not environment.suite.slowed(results):
            break
    return results


def row(name: str, memcacheds: Sequence[str]) -> Row:
    """Install a suite, and run it with one server after the other."""
    with tempfile.TemporaryDirectory() as folder:
        environment = Environment(SUITES[name], Path(folder))
        results = [results_with(environment, executable) for executable in (*memcacheds, None, str(PROGRAM))]
    return Row(name, SUITES[name].version, results)


def version(memcached: str) -> str:
    """The name and version of a memcached."""
    return subprocess.run([memcached, "-V"], check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    memcacheds = sys.argv[1:]
    servers = [*map(version, memcacheds), "memcache_kv in the tests' process", "memcache_kv as a program"]
    rows = [row(name, memcacheds) for name in SUITES]
    PAGE.write_text(with_rows(PAGE.read_text(), servers, rows))
