"""Where the time of a get90 request goes, in every way; above all how long it holds the interpreter."""

from __future__ import annotations

from benchmarks.contenders import Contender, memcached, ours
from benchmarks.durability_report import Section
from benchmarks.parts import Effort, Findings
from benchmarks.profile import notes_of, profile_all
from benchmarks.rounds import Tell
from benchmarks.ways import Way
from benchmarks.workloads import BY_NAME, NO_MEMCASLAP, memcaslap_program

LOAD = "get90"
HELD_BOUND = 1.0
LEAST_SECONDS = 4
"""With fewer looks at the interpreter lock their error is too large."""


def request_times(effort: Effort, tell: Tell) -> Findings:
    """Split the time of a request."""
    if memcaslap_program() is None:
        return Findings([Section("µs of a request", (), notes=[f"profile skipped: {NO_MEMCASLAP}"])])
    servers: list[tuple[Contender, Way | None]] = [(ours(way=way), way) for way in effort.ways]
    servers += [(contender, None) for contender in memcached()]
    seconds = max(effort.seconds, LEAST_SECONDS)
    times, *_ = profile_all(servers, [BY_NAME[LOAD]], seconds, tell)
    times.notes += notes_of(seconds)
    findings = Findings([times])
    held = {row[1]: row[8] for row in times.rows}
    for way in effort.ways:
        name = f"{LOAD}: µs that the interpreter is held"
        findings.reach(name, held[ours(way=way).name], way, HELD_BOUND, at_least=False)
    return findings
