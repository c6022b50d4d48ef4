"""For all tests: signals, bytecode, and hypothesis with few examples, or many by `--hypothesis-profile=thorough`."""

import contextlib
import gc
import importlib
import os
import signal
import sys

import pytest
from hypothesis import HealthCheck, settings

collect_ignore = ["sample_project"]
"""A project of its own, whose tests tests/testing/test_sample_project.py runs."""

signal.signal(signal.SIGINT, signal.default_int_handler)
"""A shell starts what runs in the background with SIGINT ignored, which programs under test would inherit."""

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
"""Each start of a server takes twice as long without bytecode, and there are a thousand of them."""

settings.register_profile("quick", max_examples=100, stateful_step_count=40, deadline=None)
settings.register_profile(
    "thorough",
    max_examples=1000,
    stateful_step_count=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("quick")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile a share of the tests before they are collected, where several processes collect all of them.

    Otherwise all compile the same file at the same time, one after another.
    """
    config = session.config
    share: dict[str, int | str] | None = getattr(config, "workerinput", None)
    if share is None or config.args != config.getini("testpaths"):
        return
    number, count = int(str(share["workerid"]).removeprefix("gw")), int(share["workercount"])
    for path in sorted((config.rootpath / "tests").rglob("test_*.py"))[number::count]:
        with contextlib.suppress(Exception, pytest.skip.Exception):  # collecting the file tells of it
            importlib.import_module(".".join(path.relative_to(config.rootpath).with_suffix("").parts))


def pytest_collection_finish() -> None:
    """Let the garbage collector leave out what was there before the first test, which stays until the last."""
    gc.collect()
    gc.freeze()
