"""The libraries that set the clock of a program under test: freezegun and time-machine, behind one interface."""

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any, Protocol

import pytest

from memcache_kv.compiled import HAS_GIL


class PatchedClock(Protocol):
    """A clock that one of the libraries has set."""

    def move_to(self, moment: Any, /) -> None:
        """Move the clock within the test."""


PatchClock = Callable[[datetime, bool], AbstractContextManager[PatchedClock]]
"""Set the clock to a moment for a `with` block, and let it tick or stand still."""


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        if os.environ.get("CI") and HAS_GIL:  # there may be no wheel of time-machine without
            raise
        pytest.skip(f"{name} is not installed")


@contextmanager
def freezegun(moment: datetime, tick: bool = False) -> Iterator[PatchedClock]:
    """Set the clock with freezegun, which replaces functions where modules have them."""
    with _library("freezegun").freeze_time(moment, tick=tick) as patched:
        yield patched


@contextmanager
def time_machine(moment: datetime, tick: bool = False) -> Iterator[PatchedClock]:
    """Set the clock with time-machine, which replaces functions in the interpreter itself."""
    with _library("time_machine").travel(moment, tick=tick) as patched:
        yield patched


both_libraries = pytest.mark.parametrize("patch_clock", [freezegun, time_machine], ids=["freezegun", "time-machine"])
