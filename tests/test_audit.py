"""The audit of dependencies: vulnerable, sound, and an index that tells nothing, which must not look like sound."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).resolve().parent.parent / ".ci" / "audit.py"

SOUND = {"name": "sound", "version": "1.0", "vulns": []}
VULNERABLE = {"name": "weak", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["1.1"]}]}
UNKNOWN = {"name": "stranger", "skip_reason": "not found"}


def audit(directory: Path, said: str, *flags: str) -> "subprocess.CompletedProcess[str]":
    """Run the audit with a pip-audit that says this."""
    tool = directory / "pip-audit"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
    tool.chmod(0o755)
    environment = os.environ | {"PIP_AUDIT": str(tool)}
    return subprocess.run(
        [sys.executable, AUDIT, *flags], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def report(*packages: object) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


@pytest.mark.parametrize(
    ("said", "status", "line"),
    [
        (report(SOUND), 0, "1 packages looked up, 0 of them vulnerable"),
        (report(SOUND, VULNERABLE), 1, "weak 1.0 has CVE-1, mended in 1.1"),
        (report(SOUND, UNKNOWN), 1, "stranger could not be looked up: not found"),
        (report(UNKNOWN, UNKNOWN), 3, "NOT DONE"),
        ("", 3, "NOT DONE"),
    ],
)
def test_an_audit_says_what_it_found(tmp_path: Path, said: str, status: int, line: str) -> None:
    done = audit(tmp_path, said)
    assert done.returncode == status
    assert line in done.stdout + done.stderr


def test_an_audit_that_could_not_be_done_passes_only_where_that_is_allowed_and_says_so(tmp_path: Path) -> None:
    done = audit(tmp_path, report(UNKNOWN), "--allow-offline")
    assert done.returncode == 0
    assert "NOT DONE" in done.stderr


def test_a_vulnerable_package_never_passes(tmp_path: Path) -> None:
    assert audit(tmp_path, report(VULNERABLE, UNKNOWN), "--allow-offline").returncode == 1
