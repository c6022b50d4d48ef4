"""Attack a server, and measure what others see of it, what it costs, and what is left afterwards."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import bcrypt
import trustme

from benchmarks.attack_cases import ATTACKS, HASHED_NAME, QUICK, Attack, Size
from benchmarks.contenders import Contender, memcached, ours, running, statistics_of
from benchmarks.durability_servers import LOADER_CORES, put_on_cores
from benchmarks.part_memory import fill
from benchmarks.rounds import Tell
from benchmarks.workloads import ROOT, LoadError, run_pipelined
from clients.local_server import LocalServer, accepts, answers

ITEM_BYTES = 35
"""The length of a stored value."""
LEAST_SECONDS = 1.0
"""How long others are looked at, however short the attack."""
QUIET_TIMES, QUIET_SECONDS, QUIET_CPU_SECONDS = 3, 0.2, 0.03
"""A server is at rest again when it uses so little in so long so often; some of it are the bystander's gets."""
PATIENCE_SECONDS = 120
BYSTANDER = "bystander:password"
BCRYPT_COST = 10


@dataclass(frozen=True)
class Outcome:
    """What an attack did."""

    p99_ms: float
    """What a get of another client took, without the time in which the machine ran something else."""
    longest_ms: float
    clock_p99_ms: float
    cpu_seconds: float
    peak_bytes: float
    """Memory above that before the attack, at its peak."""
    left_bytes: float
    """The same after the attacker has left."""
    kept: float | None
    """The part of the items that is still there."""


FIGURES = tuple(each.name for each in fields(Outcome) if each.name != "kept")


@dataclass(frozen=True)
class Throughput:
    """How many gets a server carries out in a second of its CPU time, without and with the attack."""

    before: float
    during: float


def median_of(rounds: Sequence[Outcome]) -> Outcome:
    """Take the median of each figure."""
    found = {name: statistics.median(getattr(each, name) for each in rounds) for name in FIGURES}
    kept = [each.kept for each in rounds if each.kept is not None]
    return replace(rounds[0], **found, kept=statistics.median(kept) if kept else None)


class Helper:
    """Another process that says when it is ready, and goes on with every line that it is sent."""

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self._process = process
        self._name = name

    def expect(self, word: str) -> None:
        """Wait until the process says this. Raises LoadError."""
        assert self._process.stdout is not None  # it is a pipe
        if self._process.stdout.readline().strip() != word:
            self.last_words()
            raise LoadError(f"{self._name} did not say {word}")

    def go_on(self) -> None:
        """Let the process do its next step."""
        assert self._process.stdin is not None  # it is a pipe
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def last_words(self) -> str:
        """Let the process end; return what it says. Raises LoadError."""
        output, complaint = self._process.communicate(timeout=PATIENCE_SECONDS)
        if self._process.returncode:
            raise LoadError(f"{self._name}: {complaint}")
        return output


@contextlib.contextmanager
def helping(module: str, *arguments: str) -> Iterator[Helper]:
    """Run a module beside this process, on the core that the server leaves free; end it with the block."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT, start_new_session=True
    ) as process:
        put_on_cores(process.pid, LOADER_CORES)
        try:
            helper = Helper(process, module)
            helper.expect("ready")
            yield helper
        finally:
            process.kill()


def contenders(attack: Attack, directory: Path) -> list[Contender]:
    """List the servers that an attack concerns, with the flags that it needs."""
    flags = list(attack.flags)
    if attack.tls:
        flags += ["-Z", "-o", _certificate(directory)]
    if attack.logins:
        return [ours(*flags, "-Y", str(_users(directory)), memory=attack.memory)]
    return [ours(*flags, memory=attack.memory), *memcached(*flags, memory=attack.memory)]


def _certificate(directory: Path) -> str:
    made = trustme.CA().issue_cert("localhost")
    chain, key = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    made.private_key_pem.write_to_path(str(key))
    key.chmod(0o600)
    return f"ssl_chain_cert={chain},ssl_key={key}"


def _users(directory: Path) -> Path:
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(BCRYPT_COST)).decode()
    path = directory / "users"
    path.write_text(f"{BYSTANDER}\n{HASHED_NAME}:{hashed}\n")
    path.chmod(0o600)
    return path


def run(name: str, contender: Contender, size: Size, tell: Tell) -> Outcome:
    """Start a server, attack it while a bystander gets an item every millisecond, and let the attacker leave."""
    attack = ATTACKS[name]
    asks_first = attack.tls or attack.logins
    with running(contender, apart=True, is_ready=accepts if asks_first else answers) as server:
        if attack.has_items:
            tell(f"{name}: storing {size.items:,} items: {contender.name}")
            fill(server, size.items, ITEM_BYTES)
        tell(f"{name}: {contender.name}")
        port, tls = str(server.address.port), ["--tls"] * attack.tls
        login = ["--login", BYSTANDER] * attack.logins
        with helping("bystander", port, str(server.pid), *tls, *login) as bystander:
            with helping("attack_cases", port, name, *tls, *["--quick"] * (size is QUICK)) as attacker:
                _settle(server)
                outcome = _attack(server, attack, attacker, bystander)
            _settle(server)
        return outcome


def _attack(server: LocalServer, attack: Attack, attacker: Helper, bystander: Helper) -> Outcome:
    items = _items(server) if attack.has_items else 0.0
    server.forget_peak()
    memory, cpu = server.resident_bytes(), server.cpu_seconds()
    end = time.monotonic() + LEAST_SECONDS
    bystander.go_on()
    attacker.go_on()
    attacker.expect("done")
    _settle(server)
    time.sleep(max(end - time.monotonic(), 0.0))
    found = json.loads(bystander.last_words())
    cpu, peak = server.cpu_seconds() - cpu, server.peak_resident_bytes() - memory
    kept = _items(server) / items if items else None
    attacker.last_words()
    _settle(server)
    waits, left = (found["p99"], found["max"], found["clock_p99"]), server.resident_bytes() - memory
    return Outcome(*waits, cpu, peak, left, kept)


def _items(server: LocalServer) -> float:
    return float(statistics_of(server)["curr_items"])


def _settle(server: LocalServer) -> None:
    """Wait until the server has done what it was asked for."""
    end, quiet, before = time.monotonic() + PATIENCE_SECONDS, 0, -1.0
    while quiet < QUIET_TIMES and time.monotonic() < end:
        now = server.cpu_seconds()
        quiet = quiet + 1 if now - before <= QUIET_CPU_SECONDS else 0
        before = now
        time.sleep(QUIET_SECONDS)


def throughput(name: str, contender: Contender, size: Size, tell: Tell) -> Throughput:
    """Load a server with pipelined gets, then again while it is attacked."""
    seconds = max(int(size.seconds), 1)
    with running(contender) as server:
        port = server.address.port
        tell(f"{name}: pipelined gets without: {contender.name}")
        before = _gets_per_cpu_second(server, seconds)
        tell(f"{name}: pipelined gets with: {contender.name}")
        with helping("attack_cases", str(port), name) as attacker:
            attacker.go_on()
            attacker.expect("done")
            during = _gets_per_cpu_second(server, seconds)
    return Throughput(before, during)


def _gets_per_cpu_second(server: LocalServer, seconds: int) -> float:
    cpu = server.cpu_seconds()
    gets = run_pipelined(server.address.port, seconds, "--sets", "0")
    return gets / max(server.cpu_seconds() - cpu, QUIET_CPU_SECONDS)


def median_throughput(rounds: Sequence[Throughput]) -> Throughput:
    """Take the medians; the second one by the ratio within a round."""
    before = statistics.median(each.before for each in rounds)
    return Throughput(before, before * statistics.median(each.during / each.before for each in rounds))


@contextlib.contextmanager
def files() -> Iterator[Path]:
    """Give a directory for certificates and users."""
    with tempfile.TemporaryDirectory(prefix="benchmark.") as directory:
        yield Path(directory)
