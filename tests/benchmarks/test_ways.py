"""The ways to run memcache_kv: named by interpreter, compiled or pure."""

import sys

import pytest

from benchmarks.contenders import ours
from benchmarks.ways import PURE, Way, interpreter_name, this_way, ways_of
from benchmarks.workloads import LoadError

ABOUT = {"name": "CPython", "version": "3.13.0", "distribution": "", "optimized": False, "free_threaded": False}


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({}, "CPython 3.13.0"),
        ({"optimized": True}, "CPython 3.13.0 with PGO"),
        ({"distribution": "Debian"}, "Debian's CPython 3.13.0"),
        ({"free_threaded": True}, "CPython 3.13.0t"),
    ],
)
def test_an_interpreter_has_a_name(more: dict[str, object], name: str) -> None:
    assert interpreter_name(ABOUT | more) == name


def test_this_interpreter_offers_the_pure_way_last() -> None:
    *_, pure = ways_of([sys.executable])
    assert pure.label.startswith("pure, ")
    assert f"CPython {sys.version.split()[0]}" in pure.label
    assert this_way().python == sys.executable


def test_a_server_is_named_by_its_way_and_run_by_its_interpreter() -> None:
    way = Way("/opt/python", "CPython 3.13.0", False, PURE)
    contender = ours("-t", "2", way=way)
    assert contender.name == "memcache_kv (pure, CPython 3.13.0)"
    assert contender.command[:5] == ("env", "MEMCACHE_KV_PURE=1", "/opt/python", "-m", "memcache_kv")


def test_what_can_not_run_the_server_is_reported() -> None:
    with pytest.raises(LoadError, match="can't run memcache_kv"):
        ways_of(["false"])
