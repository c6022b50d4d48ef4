"""Run the programs of clients/ as a user does: in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

WITHOUT_A_PACKAGE = """
import runpy, sys
_, missing, path, *arguments = sys.argv
sys.modules[missing] = None
sys.argv = [path, *arguments]
runpy.run_path(path, run_name="__main__")
"""
"""Runs a program as if a package were not installed."""


def run_program(
    name: str, *arguments: str, typed: bytes = b"", without: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run clients/NAME with arguments and piped input, without one package; return status, output and errors."""
    path = str(ROOT / "clients" / name)
    done = subprocess.run(
        [sys.executable, *(("-c", WITHOUT_A_PACKAGE, without, path) if without else (path,)), *arguments],
        input=typed,
        capture_output=True,
        timeout=90,
        env={**os.environ, "COLUMNS": "160", **variables},
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )
