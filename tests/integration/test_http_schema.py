"""Requests generated from /openapi.json have replies as the description says."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.test_http import start, url_of

EXCLUDED = "positive_data_acceptance"
"""The check that every valid request succeeds: conditions may fail, and cursors and tags are the server's own."""
CHECKS = ("--checks", "all", "--exclude-checks", EXCLUDED, "--phases", "coverage,fuzzing")
AMOUNT = ("--max-examples", "50", "--seed", "1", "--no-color")
CONFIGURATION = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, "5xx"]
"""
"""A list with too many operations is answered with 413, which is not among the tool's own statuses."""
PATIENCE_SECONDS = 1200


@pytest.mark.long
@pytest.mark.timeout(PATIENCE_SECONDS)
@pytest.mark.skipif(
    importlib.util.find_spec("schemathesis") is None and not os.environ.get("CI"),
    reason="schemathesis is not installed",
)
def test_schemathesis_finds_no_fault(tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    with start() as program:
        url = url_of(program)
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", *CHECKS, *AMOUNT],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
            cwd=tmp_path,  # it keeps files of its own there
        )
        assert done.returncode == 0, done.stdout
        assert program.end() == 0
    assert b"Traceback" not in program.said
