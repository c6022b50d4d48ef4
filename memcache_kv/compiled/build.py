"""The commands with which setuptools builds the compiled modules. Nothing imports this at run time.

The modules are listed in pyproject.toml. An installation has all of them or none: it has none with MEMCACHE_KV_PURE=1,
without a working compiler, or if a source has an error, and the package works all the same. In CI (CI=true) a test
fails if nothing was compiled although there is a compiler.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress

from setuptools import Extension
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError


def _is_pure() -> bool:
    """Tell whether the environment asks for an installation without compiled modules."""
    return os.environ.get("MEMCACHE_KV_PURE") == "1"


class BuildExtensions(build_ext):
    """Compiles all modules, or leaves none behind and says so in one line."""

    def finalize_options(self) -> None:
        """Keep the generated C out of the source tree."""
        super().finalize_options()
        self.cython_c_in_temp = True
        self.has_failed = False

    def build_extensions(self) -> None:
        """Compile the modules. If one can't be compiled, or none is wanted, remove those that are there."""
        if not _is_pure():
            super().build_extensions()
            if not self.has_failed:
                return
        why = "a module could not be compiled (see above)" if self.has_failed else "MEMCACHE_KV_PURE=1 is set"
        for extension in self.extensions:
            self._remove(extension)
        self.extensions = []
        self.announce(f"memcache_kv is installed as pure Python, which is slower: {why}", logging.WARNING)

    def build_extension(self, ext: Extension) -> None:
        """Compile one module. The modules are optional, so setuptools goes on after a failure that it knows."""
        try:
            super().build_extension(ext)
        except Exception as failure:
            self.has_failed = True
            raise CompileError(str(failure)) from failure

    def _remove(self, extension: Extension) -> None:
        """Remove a module that was built now or earlier, in an editable installation beside its source too."""
        path = self.get_ext_filename(extension.name)  # type: ignore[no-untyped-call]
        for folder in (self.build_lib, ".") if self.editable_mode else (self.build_lib,):
            with suppress(FileNotFoundError):
                os.remove(os.path.join(folder, path))


class BuildWheel(bdist_wheel):
    """Makes a wheel for any platform if no compiled modules are wanted."""

    def finalize_options(self) -> None:
        """Decide on the wheel's name."""
        super().finalize_options()
        self.root_is_pure = self.root_is_pure or _is_pure()

    def run(self) -> None:
        """Make the wheel."""
        if _is_pure():
            self.run_command("build_ext")  # says so
            self.distribution.ext_modules = None  # otherwise the package goes where a platform's own modules go
        super().run()
