"""What clients do with memcached is answered alike by this server, and the other way round: recorded and replayed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymemcache.client.base import Client  # type: ignore[import-untyped]

from memcache_kv.testing.wire import Tap
from memcache_kv.traffic import cli
from memcache_kv.traffic.recording import Recorder, Recording
from tests.integration.known_differences import has_rewritten_parser
from tests.integration.wire import RunningServer
from tests.traffic.conftest import MakeAddress
from tests.traffic.sessions import run_session

Address = tuple[str, int]


def recorded(path: Path, address: Address, act: Callable[[Address], None]) -> Recording:
    """Record what is done with a server."""
    with Recorder(path) as recorder, Tap(address) as tap:
        tap.listeners.append(recorder)
        act(tap.address)
    return Recording(path)


def difference(path: Path, address: Address) -> int:
    return cli.main([str(path), "--against", f"{address[0]}:{address[1]}"])


def use_pymemcache(address: Address) -> None:
    """Text: what an application does."""
    client = Client(address, default_noreply=False)
    client.set("a", b"1", expire=100)
    client.set_many({"b": b"2", "c": b"\xff\x00"}, noreply=True)
    client.get_many(["a", "b", "nothing"])
    value, cas = client.gets("a")
    assert client.cas("a", value + b"2", cas)
    assert not client.cas("a", b"3", cas)
    client.incr("a", 5)
    client.append("b", b"x")
    client.touch("c", 50)
    client.delete("c")
    client.stats()
    client.version()
    client.flush_all(delay=3600)
    client.quit()


def use_bmemcached(address: Address) -> None:
    """Binary, with CAS ids and quiet requests."""
    bmemcached: Any = importlib.import_module("bmemcached")
    client = bmemcached.Client([f"{address[0]}:{address[1]}"], socket_timeout=20)
    client.set("a", "text", time=100)
    client.set_multi({"b": 2, "c": b"\xff\x00"})
    client.get_multi(["a", "b", "nothing"])
    value, cas = client.gets("a")
    assert client.cas("a", value + "2", cas)
    assert not client.cas("a", "3", cas)
    client.incr("n", 5, default=7)
    client.delete("c")
    client.stats()
    client.disconnect_all()


def use_all_commands(address: Address) -> None:
    """Text, meta and binary on five connections."""
    run_session(address, seed=1, requests=250, has_me=False)


@pytest.mark.parametrize("act", [use_pymemcache, use_bmemcached, use_all_commands])
def test_both_servers_answer_alike(
    tmp_path: Path,
    ours: MakeAddress,
    memcached: Callable[[], RunningServer],
    act: Callable[[Address], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    peer = memcached()
    theirs = recorded(tmp_path / "theirs", (peer.host, peer.port), act)
    assert difference(theirs.path, ours()) == 0, capsys.readouterr().out
    mine = recorded(tmp_path / "mine", ours(), act)
    peer = memcached()
    assert difference(mine.path, (peer.host, peer.port)) == 0, capsys.readouterr().out
    assert len(theirs) > 10
    assert all(call.is_whole for call in theirs.calls())


def test_a_difference_is_found_in_all_that(
    tmp_path: Path, ours: MakeAddress, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = recorded(tmp_path / "calls", ours(), use_all_commands)
    lines = recording.path.read_bytes().splitlines(keepends=True)
    stored = [number for number, line in enumerate(lines) if b'"answered":"STORED' in line]
    lines[stored[2]] = lines[stored[2]].replace(b'"answered":"STORED', b'"answered":"NOT_STORED')
    recording.path.write_bytes(b"".join(lines))
    assert difference(recording.path, ours()) == 1
    assert f"line {stored[2] + 1} of the recording" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 6))
def test_long_sessions_with_flushes_are_answered_alike(
    tmp_path: Path,
    ours: MakeAddress,
    memcached: Callable[[], RunningServer],
    seed: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    peer = memcached()

    def act(address: Address) -> None:
        run_session(address, seed, 2000, has_me=has_rewritten_parser(peer), can_flush=seed == 2)

    theirs = recorded(tmp_path / "theirs", (peer.host, peer.port), act)
    flags = ["--keep-pace"] if seed == 2 else []
    host, port = ours()
    assert cli.main([str(theirs.path), "--against", f"{host}:{port}", *flags]) == 0, capsys.readouterr().out
