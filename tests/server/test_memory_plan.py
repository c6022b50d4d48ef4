"""How much memory a server may take, and what it says where there is less."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from memcache_kv.config.settings import Fsync, Settings
from memcache_kv.journal.appender import UNSYNCED_LIMITS
from memcache_kv.journal.writer import queue_limit_bytes
from memcache_kv.observe.log import Log
from memcache_kv.server import machine
from memcache_kv.server.connection import UNREAD_BYTES, UNSENT_BYTES
from memcache_kv.server.machine import Bound
from memcache_kv.server.memory_plan import MemoryPlan, memory_plan, memory_warning
from memcache_kv.server.run import ServerRun

MIB = 1 << 20
DURABLE = Settings(memory_limit=1024 * MIB, journal=Path("journal"))


def part(plan: MemoryPlan, name: str) -> int:
    return next(each.bytes for each in plan.parts if each.name == name)


def test_what_is_enforced_is_in_the_plan() -> None:
    plan = memory_plan(DURABLE, workers=1)
    assert part(plan, "items") == DURABLE.memory_limit
    assert part(plan, "kept input and replies") == DURABLE.connection_memory_bytes
    queue = queue_limit_bytes(DURABLE.memory_limit)
    assert part(plan, "journal: queue") == queue
    assert part(plan, "journal: not synced") > UNSYNCED_LIMITS * queue
    assert (
        sum(each.bytes for each in plan.parts) <= plan.mebibytes() * MIB < sum(each.bytes for each in plan.parts) + MIB
    )


MORE: dict[str, Settings] = {
    "-m": DURABLE._replace(memory_limit=1025 * MIB),
    "-c": DURABLE._replace(conn_limit=DURABLE.conn_limit + 1000),
    "-I": DURABLE._replace(max_item_size=8 * MIB),
    "-Z": DURABLE._replace(enable_ssl=True),
    "--http-listen": DURABLE._replace(http_listen=("8080",)),
    "--connection-memory": DURABLE._replace(connection_memory=200 * MIB),
}


@pytest.mark.parametrize("flag", MORE)
def test_what_takes_more_is_planned_more_for(flag: str) -> None:
    assert memory_plan(MORE[flag], 1).mebibytes() > memory_plan(DURABLE, 1).mebibytes()


def test_a_journal_and_its_policy_and_more_workers_count() -> None:
    plain = memory_plan(DURABLE._replace(journal=None), 1).mebibytes()
    never = memory_plan(DURABLE._replace(fsync=Fsync.NEVER), 1).mebibytes()
    always = memory_plan(DURABLE._replace(fsync=Fsync.ALWAYS), 1).mebibytes()
    assert plain < never < always == memory_plan(DURABLE, 1).mebibytes()
    assert memory_plan(DURABLE, 4).mebibytes() > always


def test_what_a_program_has_beside_its_server_counts() -> None:
    assert memory_plan(DURABLE, 1, beside_bytes=500 * MIB).mebibytes() > memory_plan(DURABLE, 1).mebibytes() + 400


def test_the_table_names_each_part_the_sum_and_where_to_put_it() -> None:
    plan = memory_plan(DURABLE, 1)
    table = plan.table()
    for each in plan.parts:
        assert re.search(rf"^{re.escape(each.name)} +[\d,.]+  {re.escape(each.why)}$", table, re.MULTILINE)
    limit = plan.mebibytes(with_sockets=True)
    for line in (f"MemoryMax={limit}M", f"limits.memory: {limit}Mi", f"--memory {limit}m"):
        assert line in table
    assert re.search(rf"^sum +{plan.mebibytes():,} ", table, re.MULTILINE)


# The warning


def test_the_warning_names_both_figures_and_a_limit_that_fits() -> None:
    bound = Bound(800 * MIB, "its cgroup")
    warning = memory_warning(DURABLE, 1, 0, bound)
    assert warning is not None
    assert f"this server may need {memory_plan(DURABLE, 1).mebibytes()} MiB of memory" in warning
    assert "its cgroup has 800 MiB" in warning
    match = re.search(r"lower -m to (\d+), or give it", warning)
    assert match is not None
    fits = DURABLE._replace(memory_limit=int(match[1]) * MIB)
    assert memory_warning(fits, 1, 0, bound) is None
    assert memory_warning(fits._replace(memory_limit=fits.memory_limit + MIB), 1, 0, bound) is not None


def test_the_buffers_of_sockets_count_in_a_cgroup_of_version_2() -> None:
    plan = memory_plan(DURABLE, 1)
    sockets = DURABLE.conn_limit * (UNSENT_BYTES + UNREAD_BYTES)
    assert plan.mebibytes(with_sockets=True) == plan.mebibytes() + sockets // MIB
    enough = plan.mebibytes() * MIB
    assert memory_warning(DURABLE, 1, 0, Bound(enough, "its cgroup")) is None
    warning = memory_warning(DURABLE, 1, 0, Bound(enough, "its cgroup", counts_sockets=True))
    assert warning is not None
    assert f"may need {plan.mebibytes(with_sockets=True)} MiB" in warning


def test_where_no_limit_of_the_items_fits_others_are_named() -> None:
    warning = memory_warning(DURABLE, 1, 0, Bound(40 * MIB, "this machine"))
    assert warning is not None
    assert "this machine has 40 MiB" in warning
    assert "lower -m, -c and --connection-memory" in warning


def test_exactly_enough_and_an_unknown_bound_are_not_warned_of() -> None:
    needed = memory_plan(DURABLE, 1).mebibytes() * MIB
    assert memory_warning(DURABLE, 1, 0, Bound(needed, "its cgroup")) is None
    assert memory_warning(DURABLE, 1, 0, Bound(needed - 1, "its cgroup")) is not None
    assert memory_warning(DURABLE, 1, 0, None) is None


def said(monkeypatch: pytest.MonkeyPatch, bound_mib: int, **settings: object) -> str:
    """What a server says at its start where a process can have so much."""
    monkeypatch.setattr(machine, "memory_bound", lambda: Bound(bound_mib * MIB, "its cgroup"))
    stream = io.StringIO()
    service = ServerRun(Settings(port=0, listen=("127.0.0.1",), **settings), log=Log(0, stream))  # type: ignore[arg-type]
    service.start()
    service.stop()
    return stream.getvalue()


def test_a_start_with_less_memory_than_is_needed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "warning: with -m 250 this server may need" in said(monkeypatch, 200, memory_limit=250 * MIB)


def test_a_start_with_enough_memory_says_nothing_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "may need" not in said(monkeypatch, 1 << 20, memory_limit=64 * MIB, journal=tmp_path / "journal")
