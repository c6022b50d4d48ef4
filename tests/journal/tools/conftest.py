"""Fixtures of the tools' tests."""

import pytest

from tests.journal.tools.journals import Run, runner


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a `memcache-kv journal` command in this process."""
    return runner(capsys)
