"""A real systemd as process 1 of namespaces of its own, with the units of deploy/systemd/ in a copy of this system.

The copy is an overlay: nothing that happens in it reaches this system's files, network or services.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.program import poll_until

UNITS = Path(__file__).resolve().parent.parent.parent / "deploy" / "systemd"
SYSTEMD = Path("/lib/systemd/systemd")
CGROUPS = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
"""Where the second version of cgroups may be mounted."""
BOOT_SECONDS = 240

PREPARE = r"""
set -eu
work=$1 shared=$2
mount --make-rprivate /
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root"
cd "$work/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mkdir shared old
mount --bind "$shared" shared
rm -rf etc/systemd/system etc/memcache-kv var/lib/memcache-kv
mkdir -p etc/systemd/system etc/tmpfiles.d
: > etc/tmpfiles.d/tmp.conf  # else a boot empties /tmp, where this installation may be
cp "$shared"/units/*.service "$shared"/units/*.socket "$shared"/units/*.target etc/systemd/system/
cp "$shared"/memcache-kv usr/local/bin/
for unit in memcache-kv memcache-kv@; do
    mkdir "etc/systemd/system/$unit.service.d"
    cp "$shared"/reach.conf "etc/systemd/system/$unit.service.d/"
done
pivot_root . old
umount -l old
exec env -i container=unshare PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=scenario.target --show-status=no --log-target=null < /dev/null
"""

TARGET = """
[Unit]
DefaultDependencies=no
Wants=scenario.service
"""

REACH = """
[Service]
ProtectHome=tmpfs
BindReadOnlyPaths={paths}
"""
"""Lets the services reach this installation where it is below /root, /home or /tmp, which are hidden from them."""

SERVICE = """
[Unit]
DefaultDependencies=no
SuccessAction=exit
FailureAction=exit
[Service]
Type=oneshot
ExecStart={python} /shared/scenario.py
StandardOutput=append:/shared/said
StandardError=append:/shared/said
"""


def why_none_boots() -> str:
    """Return why no systemd can be booted here; an empty string if it can."""
    if os.geteuid() != 0:
        return "only root can make the namespaces that a systemd of its own needs"
    missing = [name for name in ("unshare", "pivot_root", "systemctl") if shutil.which(name) is None]
    if missing or not SYSTEMD.exists():
        return f"{', '.join(missing) or SYSTEMD} is not here: Debian's systemd has it"
    if not any((Path(path) / "cgroup.procs").exists() for path in CGROUPS):
        return "the second version of cgroups is not mounted"
    with tempfile.TemporaryDirectory() as directory:
        probe = (
            f"mount --make-rprivate / && mount -t tmpfs t {directory} && cd {directory} && mkdir u w r && "
            "mount -t overlay o -o lowerdir=/,upperdir=u,workdir=w r && mount -t cgroup2 c w"
        )
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--cgroup", "--net", "--fork", "sh", "-c", probe],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            return f"the kernel does not allow a systemd of its own: {done.stderr.strip()}"
    readable = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", "import memcache_kv"],
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    return "" if readable.returncode == 0 else "another user than root can't read this installation"


@contextmanager
def own_cgroup() -> Iterator[Path]:
    """Make a cgroup for the system that boots."""
    top = next(Path(path) for path in CGROUPS if (Path(path) / "cgroup.procs").exists())
    made = top / f"memcache-kv-test-{os.getpid()}"
    made.mkdir()
    try:
        yield made
    finally:
        (made / "cgroup.kill").write_text("1")
        poll_until(lambda: "populated 0" in (made / "cgroup.events").read_text(), "all processes in it have ended")
        for path in sorted((path for path in made.rglob("*") if path.is_dir()), reverse=True):
            path.rmdir()  # those inside come first
        made.rmdir()


def boot(directory: Path, scenario: Path) -> dict[str, Any]:
    """Boot a systemd that runs a program as a service, and return what that program wrote to /shared/result.json."""
    work, shared = directory / "work", directory / "shared"
    for path in (work, shared / "units"):
        path.mkdir(parents=True)
    for path in UNITS.iterdir():
        shutil.copy(path, shared / "units")
    (shared / "units" / "scenario.target").write_text(TARGET)
    (shared / "units" / "scenario.service").write_text(SERVICE.format(python=sys.executable))
    shutil.copy(scenario, shared / "scenario.py")
    program = shared / "memcache-kv"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m memcache_kv "$@"\n')
    program.chmod(0o755)
    installation = (sys.base_prefix, sys.prefix, str(UNITS.parent.parent))
    (shared / "reach.conf").write_text(REACH.format(paths=" ".join(installation)))
    prepare = directory / "prepare.sh"
    prepare.write_text(PREPARE)
    namespaces = ["--mount", "--pid", "--cgroup", "--uts", "--ipc", "--net", "--fork", "--kill-child"]
    with own_cgroup() as cgroup, (directory / "log").open("wb") as log:
        subprocess.run(
            ["unshare", *namespaces, "sh", str(prepare), str(work), str(shared)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=BOOT_SECONDS,
            check=False,
            preexec_fn=lambda: (cgroup / "cgroup.procs").write_text("0") and None,
        )
    result, said = shared / "result.json", shared / "said"
    assert result.exists(), (directory / "log").read_text() + (said.read_text() if said.exists() else "")
    found: dict[str, Any] = json.loads(result.read_text())
    return found
