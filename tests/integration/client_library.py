"""The client libraries that the tests use: what happens where one is missing, and calling the asynchronous ones."""

import asyncio
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Awaitable
from typing import TypeVar

import pytest

T = TypeVar("T")

TIMEOUT = 30.0
"""Seconds after which a client gives up; never reached in passing."""


def require(module: str, last_python: tuple[int, int] | None = None, free_threaded: bool = True) -> None:
    """Skip the tests of a file where this client is not installed; fail where CI demands that it is.

    `last_python` is the last version for which there is a wheel of it. `free_threaded` tells whether there is one for
    free-threaded interpreters.
    """
    if importlib.util.find_spec(module) is not None:
        return
    has_wheel = last_python is None or sys.version_info[:2] <= last_python
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        has_wheel = has_wheel and free_threaded
    if os.environ.get("CI") and has_wheel:
        pytest.fail(f"{module} is not installed: pip install -e '.[peers]'")
    pytest.skip(f"{module} is not installed (extra peers)", allow_module_level=True)


class Loop:
    """An event loop that a test drives one call after the other: `loop(client.get(b"key"))`."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def __call__(self, call: Awaitable[T]) -> T:
        async def finish() -> T:
            return await call

        return self._runner.run(finish())

    def close(self) -> None:
        """Let what the client has begun to close come to its end, and end the loop."""
        self(asyncio.sleep(0.01))
        self._runner.close()
