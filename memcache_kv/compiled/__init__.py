"""The compiled modules, and whether they are in use.

They exist where the installation found a C compiler. Each does what Python modules of other rooms do too, only faster.
With MEMCACHE_KV_PURE=1 in the environment none of them is imported.
"""

import os
import sys
from importlib.util import find_spec

PURE_VARIABLE = "MEMCACHE_KV_PURE"
"""If this variable is 1, an installation compiles nothing, and a process uses nothing compiled."""

ACCELERATED = os.environ.get(PURE_VARIABLE) != "1" and find_spec(f"{__name__}.journal_encoder") is not None
"""Whether this process uses the compiled modules. An installation has all of them or none."""

HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether one thread at a time runs Python code. The compiled turn relies on that."""

FLAVOR = "compiled" if ACCELERATED else "pure Python"
"""What the log and `--version` call that."""
