"""The ways to run memcache_kv that are compared: each interpreter, with its compiled modules and without."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.workloads import ROOT, LoadError

PURE = ("env", "MEMCACHE_KV_PURE=1")
"""Put before a command, this keeps the server from using its compiled modules."""
COMPILED_WAY, PURE_WAY = "compiled", "pure"
QUESTION = """\
import importlib.util, json, platform, sys, sysconfig
def system():
    try:
        return platform.freedesktop_os_release().get("NAME", "").split(" ")[0]
    except OSError:
        return ""
package = "memcache_kv.compiled"
compiled = importlib.util.find_spec(package) and __import__(package, fromlist=["ACCELERATED"]).ACCELERATED
print(json.dumps({
    "name": platform.python_implementation(),
    "version": platform.python_version(),
    "distribution": system() if sys.base_prefix == "/usr" else "",
    "optimized": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "compiled": bool(compiled),
}))
"""


@dataclass(frozen=True)
class Way:
    """One way to run memcache_kv."""

    python: str
    """The path of the interpreter."""
    interpreter: str
    """Its name, for people."""
    compiled: bool
    prefix: tuple[str, ...] = ()
    """What is put before the command."""

    @property
    def label(self) -> str:
        """Name the way in a table."""
        return f"{COMPILED_WAY if self.compiled else PURE_WAY}, {self.interpreter}"

    def named(self, program: str) -> str:
        """Name a program that is run in this way."""
        return f"{program} ({self.label})"

    @property
    def command(self) -> tuple[str, ...]:
        """Give the command that starts the server."""
        return self.run("-m", "memcache_kv")

    def run(self, *arguments: str) -> tuple[str, ...]:
        """Give the command that runs the interpreter with these arguments."""
        return (*self.prefix, self.python, *arguments)


def ways_of(pythons: Sequence[str]) -> list[Way]:
    """List the ways that these interpreters offer: compiled, where the modules are built for them, and pure."""
    found = []
    for python in pythons:
        about = _ask(python)
        name = interpreter_name(about)
        if about["compiled"]:
            found += [Way(python, name, True), Way(python, name, False, PURE)]
        else:
            found.append(Way(python, name, False))
    return found


def this_way() -> Way:
    """Give the way in which this interpreter and this environment run the server."""
    return ways_of([sys.executable])[0]


def interpreter_name(about: dict[str, object]) -> str:
    """Name an interpreter by what it says of itself: whose it is, and whether profiles guided its optimization."""
    whose = f"{about['distribution']}'s " if about["distribution"] else ""
    threads = "t" if about["free_threaded"] else ""
    build = " with PGO" if about["optimized"] else ""
    return f"{whose}{about['name']} {about['version']}{threads}{build}"


def _ask(python: str) -> dict[str, object]:
    done = subprocess.run([python, "-c", QUESTION], capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise LoadError(f"{python} can't run memcache_kv: {done.stderr[-500:]}")
    about: dict[str, object] = json.loads(done.stdout)
    return about
