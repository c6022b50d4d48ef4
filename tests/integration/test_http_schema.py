"""Requests generated from /openapi.json have replies as the description says."""

import importlib.util
import os
import subprocess
import sys

import pytest

from tests.integration.test_http import start, url_of

EXCLUDED = "positive_data_acceptance"
"""The check that every valid request succeeds: conditions may fail, and cursors and tags are the server's own."""
CHECKS = ("--checks", "all", "--exclude-checks", EXCLUDED, "--phases", "coverage,fuzzing")
AMOUNT = ("--max-examples", "50", "--seed", "1", "--no-color")
PATIENCE_SECONDS = 1200


@pytest.mark.long
@pytest.mark.timeout(PATIENCE_SECONDS)
@pytest.mark.skipif(
    importlib.util.find_spec("schemathesis") is None and not os.environ.get("CI"),
    reason="schemathesis is not installed",
)
def test_schemathesis_finds_no_fault() -> None:
    with start() as program:
        url = url_of(program)
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", *CHECKS, *AMOUNT],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert program.end() == 0
    assert b"Traceback" not in program.said
