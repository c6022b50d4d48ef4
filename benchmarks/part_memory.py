"""Resident bytes per item, and what is left of the limit after many overwrites."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from benchmarks.charts import Bars
from benchmarks.contenders import BASELINE, OURS, Contender, both, running, statistics_of
from benchmarks.durability_report import COUNT, RATIO, Column, Section
from benchmarks.parts import Effort, Findings
from benchmarks.rounds import Tell
from benchmarks.workloads import ROOT, LoadError
from clients.local_server import LocalServer

MEGABYTES = 4096
MEBIBYTES = "{:.1f}"
SIZES = (35, 100, 1000)
TTL_SECONDS = 3600
TARGET_ITEMS = 1_000_000
"""The targets hold for so many items, of the smallest size."""
SETTLE_SECONDS = 2.0
CHURN_MEGABYTES = 64
CHURN_ITEMS = 100_000
CHURN_SIZE = 2000
SAMPLE_SECONDS = 0.05
COLUMNS = (
    Column("value", "{:,} bytes"), Column("TTL"), Column("items", COUNT), Column("server"),
    Column("MiB resident", MEBIBYTES), Column("bytes per item", COUNT),
    Column(f"resident : {BASELINE}", RATIO), Column("sets/s", COUNT),
)  # fmt: skip
CHURN_COLUMNS = (
    Column("server"), Column("overwrites", COUNT), Column("-m", COUNT), Column("idle MiB", MEBIBYTES),
    Column("most MiB", MEBIBYTES), Column("MiB at the end", MEBIBYTES), Column("most over -m", "{:+.0%}"),
    Column("at the end over -m", "{:+.0%}"), Column("items", COUNT),
)  # fmt: skip


def memory(effort: Effort, tell: Tell) -> Findings:
    """Measure all sizes of values, with and without TTL, and the churn."""
    section = Section("resident bytes per item, 36-byte keys", COLUMNS)
    findings = Findings([section])
    per_item: dict[str, list[float]] = {}
    for size in SIZES:
        for ttl in (0, TTL_SECONDS):
            items = TARGET_ITEMS if size == SIZES[0] else effort.items
            _measure(section, items, size, ttl, tell)
    for row in section.rows:
        per_item.setdefault(str(row[3]), []).append(float(row[5] or 0))
    _aim(findings, section)
    section.notes.append("bytes per item: without what the idle process takes; resident: with it")
    names = [f"{size} B{', TTL' if ttl else ''}" for size in SIZES for ttl in (0, TTL_SECONDS)]
    findings.charts["bytes_per_item"] = Bars("Resident bytes per item", "bytes", names, per_item)
    findings.sections.append(churn(effort, tell))
    return findings


def _aim(findings: Findings, section: Section) -> None:
    for row in section.rows:
        if row[3] != OURS:
            continue
        what = f"{row[2]:,} items of 36 + {row[0]} bytes, TTL {row[1]}"
        if row[0] == SIZES[0]:
            findings.aim(f"{what}: MB resident", float(row[4] or 0) * 2**20 / 1e6, 230)
        if row[6] is not None:
            findings.aim(f"{what}: resident : {BASELINE}", float(row[6]), 1.5)


def _measure(section: Section, items: int, size: int, ttl: int, tell: Tell) -> None:
    """Store the items in both servers, and add a row for each."""
    found = {}
    for contender in both(memory=MEGABYTES):
        tell(f"{items:,} items of {size} bytes{', TTL' if ttl else ''}: {contender.name}")
        with running(contender) as server:
            idle, began = server.resident_bytes(), time.monotonic()
            fill(server, items, size, "--ttl", str(ttl))
            seconds = time.monotonic() - began
            _check(contender, server, items)
            time.sleep(SETTLE_SECONDS)
            found[contender.name] = (idle, server.resident_bytes(), seconds)
    baseline = found.get(BASELINE)
    for name, (idle, full, seconds) in found.items():
        ratio = full / baseline[1] if baseline and name == OURS else None
        section.rows.append((
            size, f"{ttl} s" if ttl else "none", items, name, full / 2**20, (full - idle) / items, ratio,
            items / seconds,
        ))  # fmt: skip


def _check(contender: Contender, server: LocalServer, items: int) -> None:
    kept = int(statistics_of(server)["curr_items"])
    if kept != items:
        raise LoadError(f"{contender.name} keeps {kept:,} of {items:,} items")


def fill(server: LocalServer, items: int, size: int, *options: str) -> None:
    """Store items by a process beside this one. Raises LoadError."""
    command = [sys.executable, "-m", "benchmarks.fill", str(server.address.port), str(items), str(size), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise LoadError(done.stderr)


class Watch(threading.Thread):
    """Note how much memory a server takes at most."""

    def __init__(self, server: LocalServer) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self._server = server
        self._ended = threading.Event()

    def run(self) -> None:
        """Look every now and then."""
        while not self._ended.wait(SAMPLE_SECONDS):
            self.most = max(self.most, self._server.resident_bytes())

    def end(self) -> int:
        """Look no longer; return the most that was seen."""
        self._ended.set()
        self.join()
        return max(self.most, self._server.resident_bytes())


def churn(effort: Effort, tell: Tell) -> Section:
    """Overwrite items with values of other sizes, over and over, in less memory than they would need."""
    section = Section(f"memory while items are overwritten with random sizes up to {CHURN_SIZE:,} bytes", CHURN_COLUMNS)
    for contender in both(memory=CHURN_MEGABYTES):
        tell(f"{effort.overwrites:,} overwrites: {contender.name}")
        with running(contender) as server:
            idle = server.resident_bytes()
            watch = Watch(server)
            watch.start()
            fill(server, CHURN_ITEMS, CHURN_SIZE, "--overwrites", str(effort.overwrites))
            time.sleep(SETTLE_SECONDS)
            end, most = server.resident_bytes(), watch.end()
            items = int(statistics_of(server)["curr_items"])
        limit = CHURN_MEGABYTES * 2**20
        section.rows.append((
            contender.name, effort.overwrites, CHURN_MEGABYTES, idle / 2**20, most / 2**20, end / 2**20,
            (most - idle) / limit - 1, (end - idle) / limit - 1, items,
        ))  # fmt: skip
    section.notes.append("over -m: without what the idle process takes")
    return section
