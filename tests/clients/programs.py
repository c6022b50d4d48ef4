"""Run the programs of clients/ as a user does: in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def run_program(name: str, *arguments: str, typed: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run clients/NAME with arguments and piped input; return status, output and errors."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "clients" / name), *arguments],
        input=typed,
        capture_output=True,
        timeout=90,
        env={**os.environ, "COLUMNS": "160"},
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )
