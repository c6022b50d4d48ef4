"""The standard library's modules for threads, sockets and time, without the changes that other libraries make to them.

Some libraries replace parts of these modules in the whole process: with gevent's `monkey.patch_all`, threads are
greenlets and locks are theirs, and freezegun stops the clocks that measure waits. The server's threads need the real
ones. So the package imports the modules that are named here from here alone: tests/test_imports.py holds that.

`time` is a copy, always: freezegun looks for the functions of the original. The others are the originals, and copies if
gevent has patched them before this module is imported. A copy is made when it is first imported.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import queue as queue
    import select as select
    import selectors as selectors
    import socket as socket
    import socketserver as socketserver
    import ssl as ssl
    import subprocess as subprocess  # nosec B404
    import threading as threading
    import time as time

PATCHED_BY_GEVENT = frozenset(
    {"_thread", "queue", "select", "selectors", "socket", "socketserver", "ssl", "subprocess", "threading"}
)
"""The modules that gevent changes, and those that use them."""


def has_gevent_patched() -> bool:
    """Tell whether gevent has patched what this package uses in this process, until now."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and any(map(monkey.is_module_patched, PATCHED_BY_GEVENT))


COPIED = PATCHED_BY_GEVENT | {"time"} if has_gevent_patched() else frozenset({"time"})
"""The modules that this process gets a copy of."""


def __getattr__(name: str) -> ModuleType:
    if name != "time" and name not in PATCHED_BY_GEVENT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module: ModuleType = globals().setdefault(name, _copy(name) if name in COPIED else import_module(name))
    return module


def _copy(name: str) -> ModuleType:
    """Load a module of the standard library again. A copy imports copies too, where there are any."""
    spec = find_spec(name)
    if spec is not None and isinstance(spec.loader, SourceFileLoader):
        spec = spec_from_file_location(f"{__name__}.{name}", spec.origin)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"the module {name} can't be loaded again", name=name)
    copy = module_from_spec(spec)
    if isinstance(spec.loader, SourceFileLoader):
        copy.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import_copies}
        sys.modules[spec.name] = copy  # enumerations look for their module there
    spec.loader.exec_module(copy)
    return copy


def _import_copies(
    name: str,
    importing: Mapping[str, object] | None = None,
    local: Mapping[str, object] | None = None,
    names: Sequence[str] = (),
    level: int = 0,
) -> Any:
    """Import as `__import__` does, but copies."""
    if name in COPIED:
        return globals().get(name) or __getattr__(name)
    return builtins.__import__(name, importing, local, names, level)
