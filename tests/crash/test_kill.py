"""kill -9, and an end in peace, of a server under load: what was acknowledged is there after the restart."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.load import Connection
from tests.crash.rounds import Rounds, rounds_of, start_server
from tests.integration.wire import RunningServer, Wire, poll_until
from tests.journal.journals import FIRST, manifest_in

pytestmark = pytest.mark.long

KILL_ROUNDS = rounds_of(5)
REWRITE_ROUNDS = rounds_of(4)
LOAD_SECONDS = (0.05, 0.2)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A directory for a journal."""
    return tmp_path / "journal"


@pytest.fixture
def server(journal: Path) -> Iterator[RunningServer]:
    """A server on the journal."""
    running = start_server(journal, "always")
    yield running
    running.close()


@pytest.mark.timeout(900)  # its rounds are as slow as the disk
def test_kills_under_the_load_of_several_clients_lose_nothing_that_was_acknowledged(journal: Path, seed: int) -> None:
    rounds = Rounds(journal, "always", seed)
    try:
        for _ in range(KILL_ROUNDS):
            rounds.play(RunningServer.kill, rounds.rng.uniform(*LOAD_SECONDS))
    finally:
        print(f"{rounds.finished} kills, {rounds.acknowledged} acknowledged changes")
        rounds.close()
    assert rounds.acknowledged > 20 * KILL_ROUNDS


@pytest.mark.timeout(900)
def test_kills_while_the_journal_is_rewritten_lose_nothing_that_was_acknowledged(journal: Path, seed: int) -> None:
    rounds = Rounds(journal, "always", seed, compacts=True)
    numbers: set[str | None] = set()
    try:
        while rounds.finished < REWRITE_ROUNDS or len(numbers) <= REWRITE_ROUNDS // 2:
            rounds.play(RunningServer.kill, rounds.rng.uniform(*LOAD_SECONDS))
            base = manifest_in(journal).base
            numbers.add(base.name if base else None)
    finally:
        print(f"{rounds.finished} kills, {rounds.acknowledged} acknowledged changes")
        rounds.close()


def test_everysec_loses_nothing_to_a_kill_once_the_lag_is_zero(journal: Path, seed: int) -> None:
    rounds = Rounds(journal, "everysec", seed)

    def has_no_lag() -> bool:
        with Wire(rounds.server) as wire:
            return wire.stats()["memcache_kv_journal_lag_records"] == "0"

    try:
        for _ in range(3):
            rounds.play_until(has_no_lag, "the lag is zero", 0.1)
    finally:
        rounds.close()


@pytest.mark.parametrize("fsync", ["always", "everysec", "never"])
def test_sigterm_under_load_loses_nothing_that_was_acknowledged(journal: Path, seed: int, fsync: str) -> None:
    rounds = Rounds(journal, fsync, seed)

    def stop_in_peace(server: RunningServer) -> None:
        assert server.stop() == 0

    try:
        for _ in range(3):
            rounds.play(stop_in_peace, 0.15)
    finally:
        rounds.close()
    assert rounds.acknowledged > 60


def test_a_restart_after_a_torn_line_says_so_and_keeps_it(journal: Path, server: RunningServer) -> None:
    with Wire(server) as wire:
        wire.expect(b"set a 0 0 5\r\nwhole\r\n", b"STORED\r\n")
    server.kill()
    torn = b'{"crc":"0badcafe","len":99,"op":"set","key":"b'
    with (journal / FIRST).open("ab") as file:
        file.write(torn)
    again = start_server(journal, "always")
    try:
        with Wire(again) as wire:
            wire.expect(b"get a b\r\n", b"VALUE a 0 5\r\nwhole\r\nEND\r\n")
        [copy] = journal.glob("*.torn-*")
        assert copy.read_bytes() == torn
        assert f"cut off its {len(torn)} bytes and kept them in {copy}" in again.start_log()
    finally:
        again.close()


def test_a_damaged_journal_is_refused_with_one_line_and_left_alone(journal: Path, server: RunningServer) -> None:
    with Wire(server) as wire:
        wire.expect(b"set a 0 0 1\r\n1\r\n", b"STORED\r\n")
        wire.expect(b"set b 0 0 1\r\n2\r\n", b"STORED\r\n")  # with a record that says that the first one is on disk
    server.kill()
    content = (journal / FIRST).read_bytes().replace(b'"key":"a"', b'"key":"x"')
    (journal / FIRST).write_bytes(content)
    with pytest.raises(AssertionError, match=r"status 1\nmemcache-kv: .* is damaged at offset \d+: .*\n$"):
        start_server(journal, "always")
    assert (journal / FIRST).read_bytes() == content


def test_a_second_server_on_the_same_journal_is_refused_until_the_first_is_killed(
    journal: Path, server: RunningServer
) -> None:
    with pytest.raises(AssertionError, match="another process uses the journal"):
        start_server(journal, "always")
    client = Connection(server)
    client.send(b"set a 0 0 1\r\n1\r\n")
    assert client.read_line() == b"STORED\r\n"
    client.close()
    server.kill()
    second = start_server(journal, "always")
    with Wire(second) as wire:
        wire.expect(b"get a\r\n", b"VALUE a 0 1\r\n1\r\nEND\r\n")
    second.close()


def test_an_item_touched_before_it_expired_survives_a_kill_after_its_first_deadline(
    journal: Path, server: RunningServer
) -> None:
    with Wire(server) as wire:
        wire.expect(b"set a 0 1 1\r\n1\r\ntouch a 0\r\nset gone 0 1 1\r\n2\r\n", b"STORED\r\nTOUCHED\r\nSTORED\r\n")
        poll_until(lambda: wire.ask(b"get gone\r\n") == b"END\r\n", "the untouched one expires")
    server.kill()
    again = start_server(journal, "always")
    with Wire(again) as wire:
        wire.expect(b"get a gone\r\n", b"VALUE a 0 1\r\n1\r\nEND\r\n")
    again.close()
