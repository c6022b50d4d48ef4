"""What a journal costs and how fast it is read and rewritten, in every way, beside Redis."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.durability_compaction import DURING, compaction
from benchmarks.durability_kills import kills
from benchmarks.durability_large import large_replay
from benchmarks.durability_policies import policies, slow_syncs
from benchmarks.durability_replay import LOG, REWRITTEN, replay
from benchmarks.durability_report import Section
from benchmarks.durability_rounds import always_beside_redis
from benchmarks.durability_servers import NO_REDIS, OURS, redis_program
from benchmarks.parts import Effort, Findings
from benchmarks.rounds import Tell

ALWAYS_BOUND = 1.0
REPLAY_BOUNDS = {LOG: (": Redis' AOF", 1.0), REWRITTEN: (": Redis' RDB", 0.6)}
REWRITE_SECONDS_BOUND, REWRITE_P99_BOUND = 4, 2.0
BEFORE_SECONDS = 4
"""How long the load is measured before a rewrite begins."""


def always(effort: Effort, tell: Tell) -> Findings:
    """Measure writes that are on disk before they are answered."""
    section = always_beside_redis(_directory(), effort.ways, effort.rounds, effort.seconds, tell)
    findings = Findings([_noted(section)])
    found = {row[1]: row for row in section.rows}
    for way in effort.ways:
        findings.reach("--fsync always : Redis", found[way.named(OURS)][3], way, ALWAYS_BOUND)
    return findings


def replaying(effort: Effort, tell: Tell) -> Findings:
    """Measure starts that read a million records."""
    section = replay(_directory(), effort.replays, effort.records, tell, effort.ways)
    findings = Findings([_noted(section)])
    for row in section.rows:
        beside, bound = REPLAY_BOUNDS[str(row[0])]
        for way in effort.ways:
            if row[1] == way.named(OURS):
                findings.reach(f"replay of {effort.records:,} records {beside}", row[3], way, bound)
    return findings


def rewriting(effort: Effort, tell: Tell) -> Findings:
    """Measure rewrites under load."""
    section = compaction(_directory(), effort.records, BEFORE_SECONDS, tell, effort.ways)
    findings = Findings([_noted(section)])
    during = {row[0]: row for row in section.rows if row[1] == DURING}
    for way in effort.ways:
        row = during[way.named(OURS)]
        what = f"rewriting {effort.records:,} items under load"
        findings.reach(f"{what}: seconds", row[8], way, REWRITE_SECONDS_BOUND, at_least=False)
        findings.reach(f"{what}: p99 of others : before", row[7], way, REWRITE_P99_BOUND, at_least=False)
    return findings


def beside_redis(effort: Effort, tell: Tell) -> Findings:
    """Measure throughput under each policy, kills, slow fsyncs, and starts that read much."""
    directory = _directory()
    return Findings(
        [
            policies(directory, effort.rounds, effort.seconds, tell),
            slow_syncs(directory, effort.rounds, effort.seconds, tell),
            kills(directory, effort.kills, tell),
            _noted(large_replay(directory, effort.replays, effort.large_records, effort.large_bytes, tell)),
        ]
    )


def _directory() -> Path:
    return Path(tempfile.gettempdir())


def _noted(section: Section) -> Section:
    if redis_program() is None:
        section.notes.append(NO_REDIS)
    return section
