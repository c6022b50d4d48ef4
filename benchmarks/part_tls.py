"""Single requests over TLS, beside memcached over TLS."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contenders import BASELINE, Contender, memcached, ours, put_threads_on_cores
from benchmarks.durability_report import COUNT, RATIO, SHARE, Column, Section
from benchmarks.durability_servers import LOADER_CORES, on_cores
from benchmarks.parts import Effort, Findings
from benchmarks.rounds import Sample, Samples, Tell, summarize
from benchmarks.workloads import run_pipelined
from clients.local_server import LocalServer, free_port

CONNECTIONS = 48
BOUND = 0.9
OPTIONS = ("--tls", "--depth", "1", "--connections", str(CONNECTIONS))
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
"""Handshakes with such a key are short: they are part of the server's time."""
NO_OPENSSL = "TLS skipped: openssl, which makes the certificate, not found"
COLUMNS = (
    Column("server"), Column("ops/s", COUNT), Column("CPU µs/op", RATIO), Column("busy", SHARE),
    Column(f"ops/s : {BASELINE}", RATIO), Column(f"CPU : {BASELINE}", RATIO),
)  # fmt: skip


def tls(effort: Effort, tell: Tell) -> Findings:
    """Measure get90 over TLS."""
    section = Section(f"get90 over TLS, {CONNECTIONS} connections, one request in flight on each", COLUMNS)
    findings = Findings([section])
    if shutil.which("openssl") is None:
        section.notes.append(NO_OPENSSL)
        return findings
    with tempfile.TemporaryDirectory(prefix="benchmark.") as directory:
        flags = _certificate(Path(directory))
        samples = _take_turns([*(ours(way=way) for way in effort.ways), *memcached()], flags, effort, tell)
    found = {each.server: each for each in summarize(samples)}
    for name, each in found.items():
        busy = each.operations_per_second * each.cpu_microseconds / 1e6
        ratios = each.throughput_ratio, each.cpu_ratio
        section.rows.append((name, each.operations_per_second, each.cpu_microseconds, busy, *ratios))
    for way in effort.ways:
        findings.reach("get90 over TLS: throughput", found[ours(way=way).name].throughput_ratio, way, BOUND)
    section.notes.append(
        "the load has a core to itself, and the server the others; it is our own, as memcaslap knows no TLS, and where "
        "`busy` is far from 100 % the load bounds the throughput"
    )
    return findings


def _certificate(directory: Path) -> tuple[str, ...]:
    """Make a certificate, and give the flags that have a server use it."""
    key, certificate = directory / "key.pem", directory / "cert.pem"
    make = ("openssl", "req", "-x509", *CURVE, "-nodes", "-days", "2", "-subj", "/CN=localhost")
    subprocess.run([*make, "-keyout", str(key), "-out", str(certificate)], capture_output=True, check=True)
    directory.chmod(0o755)
    key.chmod(0o644)  # a server that gives up root reads it after that
    return "-Z", "-o", f"ssl_chain_cert={certificate},ssl_key={key}"


def _take_turns(contenders: Sequence[Contender], flags: Sequence[str], effort: Effort, tell: Tell) -> Samples:
    samples: Samples = {contender.name: [] for contender in contenders}
    for number in range(effort.rounds):
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            tell(f"TLS, round {number + 1} of {effort.rounds}: {contender.name}")
            samples[contender.name].append(_measure(contender, flags, effort.seconds))
    return samples


def _measure(contender: Contender, flags: Sequence[str], seconds: int) -> Sample:
    port = free_port()
    with LocalServer(contender.command, flags, tls_port=port) as server:
        put_threads_on_cores(server.pid)
        cpu = server.cpu_seconds()
        with on_cores(LOADER_CORES):
            operations = run_pipelined(port, seconds, *OPTIONS)
        cpu = server.cpu_seconds() - cpu
    return Sample(operations / seconds, cpu / operations * 1e6)
