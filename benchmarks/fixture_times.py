"""A plugin for pytest that writes how long fixtures and tests take, as JSON, to the file named by FIXTURE_TIMES."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "FIXTURE_TIMES"
EXPIRY = "expiry"
"""The mark of tests that let time pass."""


class FixtureTimes:
    """The seconds of one run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._session_fixtures: dict[str, float] = {}
        self._test_fixtures: dict[str, list[float]] = {}
        self._around: list[float] = []
        """Before and after each test that has a cache and lets no time pass."""
        self._tests = {True: 0.0, False: 0.0}
        """All tests together, by whether they let time pass."""
        self._before = 0.0

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        """Take the time of a fixture's setup."""
        began = time.perf_counter()
        made = yield
        seconds = time.perf_counter() - began
        if fixturedef.scope == "session":
            self._session_fixtures[fixturedef.argname] = seconds
        else:
            self._test_fixtures.setdefault(fixturedef.argname, []).append(seconds)
        return made

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the time of a test, and of what comes before and after it."""
        lets_time_pass = EXPIRY in report.keywords
        self._tests[lets_time_pass] += report.duration
        if report.when == "setup":
            self._before = report.duration
        elif report.when == "teardown" and not lets_time_pass and dict(report.user_properties).get("has_cache"):
            self._around.append(self._before + report.duration)

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Note whether a test has a cache."""
        item.user_properties.append(("has_cache", "cache" in getattr(item, "fixturenames", ())))

    def pytest_sessionfinish(self) -> None:
        """Write what was found."""
        found = {
            "session_fixtures": self._session_fixtures,
            "test_fixtures": self._test_fixtures,
            "around": self._around,
            "waiting": self._tests[True],
            "others": self._tests[False],
        }
        self._path.write_text(json.dumps(found))


def pytest_configure(config: pytest.Config) -> None:
    """Take the times."""
    config.pluginmanager.register(FixtureTimes(Path(os.environ[VARIABLE])))
