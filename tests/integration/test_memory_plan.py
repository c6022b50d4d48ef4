"""What `--memory-plan` says is enough: in a cgroup with just that much, no load kills a server."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.certificates import make_certificates
from tests.cgroups import Confined, counts_no_sockets, memory_cgroup
from tests.faults.failing_device import failing_device
from tests.integration.memory_loads import LOADS, MEGABYTE, Load, Target
from tests.integration.test_memory import memory_of
from tests.ports import free_port
from tests.program import Program, run_to_its_end

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there are no cgroups")

LIMIT_MEGABYTES = 64
CONNECTIONS = 1100
SLOW_DISK_BYTES = 1 << 30
ADDRESS = ("-p", "0", "-l", "127.0.0.1")
WORST_LOADS = (
    "sizes in turn",
    "flushes",
    "burst, everysec",
    "burst of large binary values, never",
    "control characters by 1,000, slow disk, everysec",
    "large values by 200, slow disk, everysec",
    "large values by 200, slow disk, always",
    "rewrites of a kilobyte while writing",
    "growing values with a journal, then a start",
    "half sets by 1,000 with a journal",
    "half sets by 300 over TLS",
    "unread large values",
    "dumps",
    "prefixes and reports",
)
"""Those that take most, of each kind. MEMORY_LOADS=all runs all others too, which takes ten minutes."""
LOAD_SECONDS = 300
"""The longest takes 35 s on a machine of its own."""
CHOSEN_LOADS = LOADS if os.environ.get("MEMORY_LOADS") == "all" else WORST_LOADS


def planned_bytes(*flags: str) -> int:
    """The sum that the plan says for a cgroup of the version that is here."""
    done = run_to_its_end("--memory-plan", *flags)
    assert done.returncode == 0, done.stderr
    name = "sum" if counts_no_sockets() else "sum with sockets"
    match = re.search(rf"^{name} +([\d,]+) ", done.stdout, re.MULTILINE)
    assert match is not None
    return int(match[1].replace(",", "")) * MEGABYTE


@contextlib.contextmanager
def slow_disk(path: Path) -> Iterator[Path]:
    """A disk whose writes take long."""
    with failing_device(path, SLOW_DISK_BYTES) as device, device.mounted() as disk:
        device.fail("slow")
        yield disk
        device.fail("")


def flags_of(load: Load, path: Path, opened: ExitStack) -> tuple[list[str], Target]:
    """The flags for a load, and what its clients need, but for the port."""
    flags = [*ADDRESS, "-m", str(LIMIT_MEGABYTES), "-c", str(CONNECTIONS)]
    certificates, other_port = None, 0
    if load.fsync:
        place = opened.enter_context(slow_disk(path / "slow")) if load.is_slow else path
        flags += ["--journal", str(place / "journal"), "--fsync", load.fsync]
    if load.other:
        other_port = free_port()
        flags += [load.other, str(other_port) if load.other == "-U" else f"127.0.0.1:{other_port}"]
    if load.has_tls:
        certificates = make_certificates(path / "certificates")
        flags += ["-Z", "-o", certificates.suboptions]
    return flags, Target(0, LIMIT_MEGABYTES, certificates, other_port)


@pytest.mark.long
@pytest.mark.timeout(LOAD_SECONDS)
@pytest.mark.parametrize("name", CHOSEN_LOADS)
def test_no_load_kills_a_server_with_the_planned_memory(tmp_path: Path, name: str) -> None:
    load = LOADS[name]
    with ExitStack() as opened:
        flags, target = flags_of(load, tmp_path, opened)
        planned = planned_bytes(*flags)
        group = opened.enter_context(memory_cgroup(planned))
        with Confined(group, *flags) as server:
            load.act(target.at(server.port))
            assert group.kills == 0
            assert server.process.poll() is None
            peak = memory_of(server.process.pid, "VmHWM")
            print(f"{name}: {peak // MEGABYTE} MiB of {planned // MEGABYTE}")
            assert peak < planned
            server.end()
        if load.restarts:
            with Confined(group, *flags) as server:
                assert memory_of(server.process.pid, "VmHWM") < planned
        assert group.kills == 0


def test_a_start_in_a_small_cgroup_warns_and_one_with_the_planned_memory_does_not(tmp_path: Path) -> None:
    flags = [*ADDRESS, "-m", "100", "--journal", str(tmp_path / "journal")]
    planned = planned_bytes(*flags)
    with memory_cgroup(planned - MEGABYTE) as group, Confined(group, *flags) as server:
        wanted, there = planned // MEGABYTE, planned // MEGABYTE - 1
        assert f"may need {wanted} MiB of memory, but its cgroup has {there} MiB".encode() in server.said
        assert server.end() == 0
    with memory_cgroup(planned) as group, Confined(group, *flags) as server:
        assert b"may need" not in server.said
        assert server.end() == 0


IDLE: dict[str, tuple[str, ...]] = {
    "plain": (),
    "with a journal": ("--journal", "{directory}/journal"),
    "with HTTP": ("--http-listen", "0"),
    "with TLS": ("-Z", "-o", "{suboptions}"),
    "with all": ("--journal", "{directory}/journal", "--http-listen", "0", "-Z", "-o", "{suboptions}", "-U", "{port}"),
}


@pytest.mark.parametrize("kind", IDLE)
def test_a_process_without_items_takes_what_the_plan_says(tmp_path: Path, kind: str) -> None:
    suboptions = make_certificates(tmp_path / "certificates").suboptions
    flags = [flag.format(directory=tmp_path, suboptions=suboptions, port=free_port()) for flag in IDLE[kind]]
    match = re.search(r"^process +([\d.]+) ", run_to_its_end("--memory-plan", *flags).stdout, re.MULTILINE)
    assert match is not None
    planned = float(match[1]) * MEGABYTE
    with Program(*ADDRESS, *flags) as server:
        assert planned / 2 < memory_of(server.process.pid, "VmHWM") < planned
        assert server.end() == 0


def test_the_plan_starts_nothing_and_needs_nothing(tmp_path: Path) -> None:
    done = run_to_its_end("--memory-plan", "-m", "1024", "--journal", str(tmp_path / "journal"), "-t", "4")
    assert (done.returncode, done.stderr) == (0, "")
    assert "journal: queue" in done.stdout
    assert "-t 4" in done.stdout
    assert not (tmp_path / "journal").exists()


def test_a_wrong_flag_is_an_error_of_the_plan_too() -> None:
    done = run_to_its_end("--memory-plan", "-m", "none")
    assert done.returncode == 64
    assert done.stdout == ""
