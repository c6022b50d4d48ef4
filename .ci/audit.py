#!/usr/bin/env python3
"""Look up the installed packages in the index's list of vulnerabilities, and say whether that was possible.

pip-audit ends with success when the index knows nothing of any package, as a mirror without the list does. Here that
is status 3, or a line on standard error with --allow-offline. Status 1: a package is vulnerable, or could not be
looked up while others could. PIP_AUDIT names another program to ask.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

COMMAND = ("--local", "--skip-editable", "--progress-spinner", "off", "--format", "json")


def main() -> int:
    """Run pip-audit beside this interpreter and judge its report."""
    allow_offline = "--allow-offline" in sys.argv[1:]
    pip_audit = os.environ.get("PIP_AUDIT") or Path(sys.executable).parent / "pip-audit"
    done = subprocess.run([pip_audit, *COMMAND], capture_output=True, text=True, check=False)
    packages = json.loads(done.stdout)["dependencies"] if done.stdout.strip() else []
    unknown = [package for package in packages if "skip_reason" in package]
    if len(unknown) == len(packages):
        why = f"the index knows none of {len(packages)} packages" if packages else done.stderr[-1000:]
        print(f"audit: NOT DONE, no list of vulnerabilities could be asked: {why}", file=sys.stderr)
        return 0 if allow_offline else 3
    for package in unknown:
        print(f"audit: {package['name']} could not be looked up: {package['skip_reason']}")
    vulnerable = [package for package in packages if package.get("vulns")]
    for package in vulnerable:
        for found in package["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            print(f"audit: {package['name']} {package['version']} has {found['id']}, mended in {fixed}")
    print(f"audit: {len(packages) - len(unknown)} packages looked up, {len(vulnerable)} of them vulnerable")
    return 1 if vulnerable or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
