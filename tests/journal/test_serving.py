"""A whole server with a journal, in this process: what clients are told and when, and what a restart brings back."""

import io
import re
import select
import shutil
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from memcache_kv.config.settings import Settings
from memcache_kv.errors import JournalError, JournalLocked
from memcache_kv.journal import Fsync, compaction, writer
from memcache_kv.journal.directory import LOCK_NAME
from memcache_kv.journal.manifest import FORMER_NAME, MANIFEST_NAME, base_name, increment_name
from memcache_kv.journal.record import set_line
from memcache_kv.observe.log import Log
from memcache_kv.server.run import ServerRun
from memcache_kv.store import Mode, Outcome
from memcache_kv.store.entry import cas_of, pack, value_of, wire_bytes_of
from tests.fake_clock import FakeClock
from tests.journal.disk import PATIENCE_SECONDS, Disk, broken, no_space, wait_until
from tests.journal.journals import FIRST, START, make_journal, manifest_in, names_in
from tests.program import run_to_its_end


@contextmanager
def serving(directory: Path, fsync: Fsync = Fsync.ALWAYS, clock: FakeClock | None = None) -> Iterator[ServerRun]:
    """Run a server on this journal; its log is in `said`."""
    settings = Settings(port=0, listen=("127.0.0.1",), journal=directory, fsync=fsync, threads=1)
    service = ServerRun(settings, clock, Log(stream=io.StringIO()))
    service.start()
    try:
        yield service
    finally:
        service.stop()


def said(service: ServerRun) -> str:
    stream = service.log.stream
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def connect(service: ServerRun) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_SECONDS)


def ask(client: socket.socket, request: bytes, reply: bytes) -> None:
    """Send a request and demand this reply."""
    client.sendall(request)
    got = b""
    while len(got) < len(reply):
        piece = client.recv(len(reply) - len(got))
        assert piece, f"closed after {got!r}"
        got += piece
    assert got == reply


def has_reply(client: socket.socket) -> bool:
    return bool(select.select([client], [], [], 0)[0])


# Acknowledged means durable


CHANGES = [
    b"set a 0 0 1\r\n2\r\n", b"incr a 1\r\n", b"append a 0 0 1\r\n2\r\n", b"delete a\r\n", b"touch a 100\r\n",
    b"gets a\r\n", b"flush_all\r\n", b"set a 0 0 5000\r\n" + b"x" * 5000 + b"\r\n",
]  # fmt: skip


@pytest.mark.parametrize("request_bytes", CHANGES)
def test_always_answers_a_change_only_when_it_is_on_disk(tmp_path: Path, disk: Disk, request_bytes: bytes) -> None:
    with serving(tmp_path) as service, connect(service) as client, connect(service) as reader:
        ask(client, b"set a 0 0 1\r\n1\r\n", b"STORED\r\n")
        disk.stall_syncs()
        client.sendall(request_bytes)
        assert disk.at_sync.wait(PATIENCE_SECONDS)
        ask(reader, b"version\r\nget missing\r\n", b"VERSION")
        assert not has_reply(client)
        disk.may_sync.set()
        assert client.recv(100)
        assert disk.durable[FIRST] == (tmp_path / FIRST).stat().st_size


OTHER_CHANGES = [
    b"ms a 1\r\n2\r\n", b"ma a\r\n", b"md a\r\n", b"mg a T100 v\r\n", b"gat 100 a\r\n", b"decr a 1\r\n",
    b"set a 0 0 1 noreply\r\n2\r\nversion\r\n", b"ms a 1 q\r\n2\r\nmn\r\n",
    struct.pack("!BBHBBHIIQ", 0x80, 0x11, 1, 8, 0, 0, 10, 0, 0) + bytes(8) + b"a2" + struct.pack("!BB22x", 0x80, 0x0A),
]  # fmt: skip
"""Changes in other protocols, the silent ones with a request that is answered."""


@pytest.mark.parametrize("fsync", [Fsync.EVERYSEC, Fsync.NEVER])
@pytest.mark.parametrize("request_bytes", CHANGES + OTHER_CHANGES)
def test_without_always_a_change_is_answered_only_when_it_is_written(
    tmp_path: Path, disk: Disk, fsync: Fsync, request_bytes: bytes
) -> None:
    with serving(tmp_path, fsync) as service, connect(service) as setter, connect(service) as client:
        ask(setter, b"set a 0 0 1\r\n1\r\n", b"STORED\r\n")
        before = (tmp_path / FIRST).stat().st_size
        disk.stall_writes()
        client.sendall(request_bytes)
        assert disk.at_write.wait(PATIENCE_SECONDS)
        assert not has_reply(client)
        disk.may_write.set()
        assert client.recv(100)
        assert (tmp_path / FIRST).stat().st_size > before


@pytest.mark.parametrize("fsync", [Fsync.EVERYSEC, Fsync.NEVER])
def test_while_another_thread_writes_to_the_journal_readers_are_answered_and_writers_wait(
    tmp_path: Path, disk: Disk, fsync: Fsync
) -> None:
    with serving(tmp_path, fsync) as service, connect(service) as client, connect(service) as reader:
        journal = service.journal
        assert journal is not None
        disk.stall_writes()
        journal.stored(b"other", 0, 0, 0, b"value")
        other = threading.Thread(target=journal.append)
        other.start()
        assert disk.at_write.wait(PATIENCE_SECONDS)
        client.sendall(b"set a 0 0 1\r\n1\r\n")
        wait_until(lambda: journal.waits == 1, "the writer waits")
        ask(reader, b"get a\r\n", b"VALUE a 0 1\r\n1\r\nEND\r\n")
        assert not has_reply(client)
        disk.may_write.set()
        ask(client, b"", b"STORED\r\n")
        other.join(PATIENCE_SECONDS)


def test_under_everysec_changes_are_answered_while_an_fsync_is_under_way(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SYNC_SECONDS", 0.01)
    with serving(tmp_path, Fsync.EVERYSEC) as service, connect(service) as client:
        disk.stall_syncs()
        ask(client, b"set a 0 0 1\r\n1\r\n", b"STORED\r\n")
        assert disk.at_sync.wait(PATIENCE_SECONDS)
        ask(client, b"set b 0 0 1\r\n1\r\n", b"STORED\r\n")
        assert b'"key":"b"' in (tmp_path / FIRST).read_bytes()
        disk.may_sync.set()


def test_silent_changes_are_on_disk_before_the_answer_to_what_follows_them(tmp_path: Path, disk: Disk) -> None:
    with serving(tmp_path) as service, connect(service) as client:
        disk.stall_syncs()
        client.sendall(b"set a 0 0 1 noreply\r\n1\r\nget a\r\n")
        assert disk.at_sync.wait(PATIENCE_SECONDS)
        assert not has_reply(client)
        disk.may_sync.set()
        ask(client, b"", b"VALUE a 0 1\r\n1\r\nEND\r\n")


def test_a_client_that_waits_for_the_disk_is_served_in_order_however_much_it_sends(tmp_path: Path, disk: Disk) -> None:
    with serving(tmp_path) as service, connect(service) as client:
        ask(client, b"set n 0 0 1\r\n0\r\n", b"STORED\r\n")
        disk.stall_syncs()
        client.sendall(b"incr n 1\r\n")
        assert disk.at_sync.wait(PATIENCE_SECONDS)
        client.sendall(b"incr n 1\r\n" * 3)
        disk.may_sync.set()
        ask(client, b"incr n 1\r\n", b"1\r\n2\r\n3\r\n4\r\n5\r\n")


def test_a_change_that_reaches_the_disk_while_its_client_is_put_aside_is_answered(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path) as service, connect(service) as client:
        journal = service.journal
        assert journal is not None
        told, ask_journal = threading.Event(), journal.must_wait
        journal.watch(told.set)

        def must_wait(position: int) -> bool:
            """Give an answer that is outdated by the time it is heard."""
            answer = ask_journal(position)
            if answer:
                disk.may_sync.set()
                assert told.wait(PATIENCE_SECONDS)
            return answer

        monkeypatch.setattr(journal, "must_wait", must_wait)
        disk.stall_syncs()
        ask(client, b"set a 0 0 1\r\n1\r\n", b"STORED\r\n")
        assert told.is_set()


def test_a_power_loss_at_any_moment_leaves_every_acknowledged_value(tmp_path: Path, disk: Disk) -> None:
    with serving(tmp_path / "journal") as service:
        acknowledged = [0] * 4
        stopping = threading.Event()

        def count(number: int) -> None:
            with connect(service) as client:
                ask(client, b"set %d 0 0 1\r\n0\r\n" % number, b"STORED\r\n")
                while not stopping.is_set():
                    ask(client, b"incr %d 1\r\n" % number, b"%d\r\n" % (acknowledged[number] + 1))
                    acknowledged[number] += 1

        threads = [threading.Thread(target=count, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        lost: list[tuple[list[int], bytes]] = []
        for moment in range(1, 9):
            wait_until(lambda least=moment * 20: min(acknowledged) >= least, "the counters go up")  # type: ignore[misc]
            before = list(acknowledged)
            lost.append((before, (tmp_path / "journal" / FIRST).read_bytes()[: disk.durable[FIRST]]))
        stopping.set()
        for thread in threads:
            thread.join()
    for before, content in lost:
        left = tmp_path / "left"
        shutil.rmtree(left, ignore_errors=True)
        make_journal(left, content)
        with serving(left) as service:
            for number, least in enumerate(before):
                entry = service.store.get(b"%d" % number)
                assert entry is not None
                assert int(value_of(wire_bytes_of(entry))) >= least


# A disk that fails


REFUSAL = b"SERVER_ERROR "


def read_line(client: socket.socket) -> bytes:
    with client.makefile("rb", buffering=0) as reader:
        return reader.readline()


def until_refused(service: ServerRun) -> None:
    journal = service.journal
    assert journal is not None
    wait_until(lambda: journal.refuses, "changes are refused")


def until_taken(service: ServerRun) -> None:
    journal = service.journal
    assert journal is not None
    wait_until(lambda: not journal.refuses, "changes are taken")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look after the files, and try again, much more often."""
    monkeypatch.setattr(writer, "FILE_CHECK_SECONDS", 0.01)
    monkeypatch.setattr(compaction, "DUE_CHECK_SECONDS", 0.01)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("failing", ["write increment", "sync increment"])
def test_while_the_disk_fails_changes_are_refused_and_reads_go_on(tmp_path: Path, disk: Disk, failing: str) -> None:
    with serving(tmp_path) as service, connect(service) as client, connect(service) as other:
        ask(client, b"set a 0 0 1\r\n1\r\n", b"STORED\r\n")
        disk.errors[failing] = broken()
        client.sendall(b"set b 0 0 1\r\n2\r\n")
        assert read_line(client).startswith(REFUSAL)
        until_refused(service)
        for request in (b"set a 0 0 1\r\n2\r\n", b"delete a\r\n", b"touch a 10\r\n", b"flush_all\r\n"):
            other.sendall(request)
            assert read_line(other).startswith(REFUSAL)
        ask(other, b"get a\r\n", b"VALUE a 0 1\r\n1\r\nEND\r\n")
        assert not service.stopping.is_set()
        assert service.journal is not None
        assert service.journal.refusals == 5
        disk.mend()
        until_taken(service)
        ask(client, b"set a 0 0 1\r\n3\r\n", b"STORED\r\n")
        assert "writes are rejected until it can be written; reads go on" in said(service)
        assert "the journal is written again" in said(service)
    with serving(tmp_path) as service, connect(service) as client:
        ask(client, b"get a\r\n", b"VALUE a 0 1\r\n3\r\nEND\r\n")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fsync", [Fsync.EVERYSEC, Fsync.NEVER])
def test_without_always_a_full_disk_refuses_what_follows(tmp_path: Path, disk: Disk, fsync: Fsync) -> None:
    with serving(tmp_path, fsync) as service, connect(service) as client:
        disk.errors["write"] = no_space()
        for value in (b"1", b"2"):
            client.sendall(b"set a 0 0 1\r\n%b\r\n" % value)
            assert read_line(client).startswith(REFUSAL)
        disk.mend()
        until_taken(service)
        ask(client, b"set b 0 0 1\r\n3\r\n", b"STORED\r\n")
    with serving(tmp_path) as service, connect(service) as client:
        ask(client, b"get a b\r\n", b"VALUE a 0 1\r\n1\r\nVALUE b 0 1\r\n3\r\nEND\r\n")


def test_a_server_that_ends_on_a_disk_that_fails_says_what_is_lost(tmp_path: Path, disk: Disk) -> None:
    with serving(tmp_path, Fsync.EVERYSEC) as service, connect(service) as client:
        disk.errors["write"] = no_space()
        client.sendall(b"set a 0 0 1\r\n1\r\n")
        assert read_line(client).startswith(REFUSAL)
    assert "No space left on device; 2 records could not be written at the end" in str(service.failure)
    assert str(service.failure) in said(service)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", [FIRST, MANIFEST_NAME])
def test_a_file_that_is_deleted_while_serving_is_told_of_and_made_anew(tmp_path: Path, name: str) -> None:
    with serving(tmp_path) as service, connect(service) as client:
        ask(client, b"set a 0 0 1\r\n1\r\n", b"STORED\r\n")
        (tmp_path / name).unlink()
        wait_until(lambda: f"{name} was deleted" in said(service), "it is noticed")
        wait_until(lambda: "written again" in said(service), "it is mended")
        ask(client, b"set b 0 0 1\r\n2\r\n", b"STORED\r\n")
    with serving(tmp_path) as service, connect(service) as client:
        ask(client, b"get a b\r\n", b"VALUE a 0 1\r\n1\r\nVALUE b 0 1\r\n2\r\nEND\r\n")


@pytest.mark.usefixtures("quick")
def test_a_server_whose_lock_was_deleted_serves_reads_alone(tmp_path: Path) -> None:
    with serving(tmp_path) as service, connect(service) as client:
        ask(client, b"set a 0 0 1\r\n1\r\n", b"STORED\r\n")
        (tmp_path / LOCK_NAME).unlink()
        until_refused(service)
        with serving(tmp_path) as second, connect(second) as another:
            ask(another, b"set a 0 0 1\r\n2\r\n", b"STORED\r\n")
        client.sendall(b"set a 0 0 1\r\n3\r\n")
        assert read_line(client).startswith(REFUSAL)
        ask(client, b"get a\r\n", b"VALUE a 0 1\r\n1\r\nEND\r\n")
    assert "lock was deleted or replaced" in str(service.failure)
    with serving(tmp_path) as service, connect(service) as client:
        ask(client, b"get a\r\n", b"VALUE a 0 1\r\n2\r\nEND\r\n")


def test_clients_wait_where_the_disk_is_slower_than_they_and_that_is_counted(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUEUE_LIMIT_BYTES", 2000)
    monkeypatch.setattr(writer, "MIN_QUEUE_LIMIT_BYTES", 2000)
    with serving(tmp_path, Fsync.EVERYSEC) as service, connect(service) as client:
        journal = service.journal
        assert journal is not None
        disk.stall_syncs()
        ask(client, b"set a 0 0 1\r\n1\r\n", b"STORED\r\n")
        ask(client, b"set b 0 0 5000\r\n" + b"x" * 5000 + b"\r\n", b"STORED\r\n")
        assert journal.waits == 0
        client.sendall(b"set c 0 0 1\r\n1\r\n")
        wait_until(lambda: journal.waits == 1, "it waits")
        assert not has_reply(client)
        disk.may_sync.set()
        ask(client, b"", b"STORED\r\n")


def test_a_disk_that_fails_at_the_start_is_told_as_an_error_of_the_journal(tmp_path: Path, disk: Disk) -> None:
    disk.errors["write"] = no_space()
    with pytest.raises(JournalError, match="No space left on device"), serving(tmp_path):
        pass
    disk.mend()
    with serving(tmp_path):  # and the directory is free again
        pass


def test_a_server_that_is_refused_the_journal_leaves_it_to_the_other(tmp_path: Path) -> None:
    with serving(tmp_path) as service, connect(service) as client:
        with pytest.raises(JournalLocked), serving(tmp_path):
            pass
        ask(client, b"set a 0 0 1\r\n1\r\n", b"STORED\r\n")


# What a restart brings back


def test_a_journal_of_format_1_goes_on(tmp_path: Path) -> None:
    start = b'{"crc":"bbc65601","len":58,"op":"start","cas":4294967296,"at":1700000000,"version":1}\n'
    value = b'{"crc":"38d62199","len":50,"op":"set","key":"text","flags":7,"value":"hello"}\n'
    (tmp_path / FORMER_NAME).write_bytes(start + value)
    with serving(tmp_path) as service, connect(service) as client:
        ask(client, b"gets text\r\n", b"VALUE text 7 5 8589934593\r\nhello\r\nEND\r\n")
        ask(client, b"append text 0 0 1\r\n!\r\n", b"STORED\r\n")
    with serving(tmp_path) as service, connect(service) as client:
        ask(client, b"get text\r\n", b"VALUE text 7 6\r\nhello!\r\nEND\r\n")
    assert names_in(tmp_path) == {FORMER_NAME, increment_name(2), MANIFEST_NAME}


@pytest.mark.parametrize("what", ["photo", "no manifest", "damage", "no base", "empty increment"])
def test_a_directory_that_a_server_rejects_is_left_as_it_was(tmp_path: Path, what: str) -> None:
    if what == "photo":
        (tmp_path / "photo.jpg").touch()
    elif what == "empty increment":
        (tmp_path / increment_name(2)).write_bytes(START)
    else:
        number = 2 if what == "no base" else 1
        content = START + b"damage\n" + START
        make_journal(tmp_path, content, known=len(content), name=increment_name(number))
    if what == "no manifest":
        (tmp_path / MANIFEST_NAME).unlink()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    done = run_to_its_end("-u", "root", "-p", "0", "-l", "127.0.0.1", "--journal", str(tmp_path))
    assert (done.returncode, str(tmp_path) in done.stderr) == (1, True), done.stderr
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_what_no_manifest_names_is_told_in_the_log(tmp_path: Path) -> None:
    make_journal(tmp_path, START)
    (tmp_path / increment_name(2)).write_bytes(START + set_line(b"a", 0, 0, 0, b"1"))
    with serving(tmp_path) as service, connect(service) as client:
        ask(client, b"get a\r\n", b"END\r\n")
        assert f"no manifest names the file that is now {increment_name(2)}.unlisted" in said(service)


def test_a_rewritten_journal_is_read_at_the_next_start(tmp_path: Path) -> None:
    with serving(tmp_path) as service, connect(service) as client:
        ask(client, b"set a 0 0 1\r\n1\r\ndelete a\r\nset b 7 0 1\r\n2\r\n", b"STORED\r\nDELETED\r\nSTORED\r\n")
        compactor = service.compactor
        assert compactor is not None
        assert compactor.request()
        wait_until(lambda: compactor.done == 1, "it is rewritten")
        ask(client, b"set c 0 0 1\r\n3\r\n", b"STORED\r\n")
    assert [part.name for part in manifest_in(tmp_path).parts] == [base_name(2), increment_name(2)]
    with serving(tmp_path) as service, connect(service) as client:
        ask(client, b"get a b c\r\n", b"VALUE b 7 1\r\n2\r\nVALUE c 0 1\r\n3\r\nEND\r\n")


def test_a_torn_end_is_told_in_the_log_with_its_copy(tmp_path: Path) -> None:
    with serving(tmp_path) as service, connect(service) as client:
        ask(client, b"set a 0 0 1\r\n1\r\n", b"STORED\r\n")
    with (tmp_path / FIRST).open("ab") as file:
        file.write(b'{"crc":"0')
    with serving(tmp_path) as service, connect(service) as client:
        ask(client, b"get a\r\n", b"VALUE a 0 1\r\n1\r\nEND\r\n")
        [copy] = tmp_path.glob(f"{FIRST}.torn-*")
        assert f"cut off its 9 bytes and kept them in {copy}" in said(service)
    with serving(tmp_path) as service:
        assert "cut off" not in said(service)


def test_cas_ids_after_a_restart_are_above_all_earlier_ones(tmp_path: Path) -> None:
    highest = 0
    for _ in range(3):
        with serving(tmp_path) as service:
            for key in (b"a", b"b", b"a"):
                service.store.store(Mode.SET, key, pack(0, b"1"))
                item = service.store.gets(key)
                assert item is not None
                assert cas_of(item) > highest
                highest = cas_of(item)


def test_cas_ids_are_never_given_twice_although_the_record_of_the_last_was_lost(tmp_path: Path) -> None:
    given: set[int] = set()
    for _ in range(3):
        with serving(tmp_path) as service:
            service.store.store(Mode.SET, b"a", pack(0, b"1"))
            before = (tmp_path / FIRST).stat().st_size
            item = service.store.gets(b"a")
            assert item is not None
            assert cas_of(item) not in given
            given.add(cas_of(item))
        content = (tmp_path / FIRST).read_bytes()
        assert b'"op":"cas"' in content[before:]
        make_journal(tmp_path, content[: content.rindex(b'{"crc"')])


def test_a_token_from_before_the_restart_matches_an_unchanged_item_and_never_a_changed_one(tmp_path: Path) -> None:
    tokens: dict[bytes, int] = {}
    keys = (b"same", b"touched", b"changed", b"changed later", b"deleted")
    with serving(tmp_path) as service:
        store = service.store
        for key in keys:
            store.store(Mode.SET, key, pack(0, b"1"))
            item = store.gets(key)
            assert item is not None
            tokens[key] = cas_of(item)
        store.touch(b"touched", 0)
        store.store(Mode.SET, b"changed", pack(0, b"1"))
        store.delete(b"deleted")
    with serving(tmp_path) as service:
        store = service.store
        store.store(Mode.SET, b"changed later", pack(0, b"1"))
        store.store(Mode.SET, b"deleted", pack(0, b"1"))
        for key in keys:
            store.gets(key)
        outcomes = {key: store.store(Mode.CAS, key, pack(0, b"2"), cas=tokens[key]) for key in keys}
    assert outcomes == {
        b"same": Outcome.STORED,
        b"touched": Outcome.STORED,
        b"changed": Outcome.EXISTS,
        b"changed later": Outcome.EXISTS,
        b"deleted": Outcome.EXISTS,
    }


def test_a_delayed_flush_takes_place_in_the_run_after_the_command(tmp_path: Path) -> None:
    clock = FakeClock()
    with serving(tmp_path, clock=clock) as service:
        service.store.store(Mode.SET, b"a", pack(0, b"1"))
        service.store.flush(clock.now + 10)
    for seconds, is_there in ((9, True), (1, False), (1, False)):
        clock.advance(seconds)
        with serving(tmp_path, clock=FakeClock(clock.now)) as service:
            assert (service.store.get(b"a") is not None) is is_there


def test_what_is_stored_after_a_flush_that_fell_due_while_down_stays_over_the_next_restart(tmp_path: Path) -> None:
    clock = FakeClock()
    with serving(tmp_path, clock=clock) as service:
        service.store.store(Mode.SET, b"a", pack(0, b"1"))
        service.store.flush(clock.now + 10)
    clock.advance(100)
    with serving(tmp_path, clock=clock) as service:
        service.store.store(Mode.SET, b"b", pack(0, b"2"))
    with serving(tmp_path, clock=clock) as service:
        assert [key for key, _ in service.store.items()] == [b"b"]


def test_a_worker_that_has_ended_can_be_woken_while_the_journal_still_moves(tmp_path: Path, disk: Disk) -> None:
    with serving(tmp_path) as service:
        [worker] = service.workers
        for listener in service.listeners:
            listener.stop()
        worker.stop()
        worker.join(PATIENCE_SECONDS)
        worker.wake()
        service.listeners.clear()


def test_a_fault_in_the_journals_thread_is_logged_with_its_place_and_asks_for_the_end(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        journal = service.journal
        assert journal is not None

        def fail() -> None:
            if journal.fault is None:
                raise ValueError("ours")

        journal.watch(fail)
        journal.commit()
        wait_until(service.stopping.is_set, "the end is asked for")
    line = next(line for line in said(service).splitlines() if "by a fault" in line)
    assert re.fullmatch(
        r"the thread 'journal' ended by a fault of the server: "
        r"ValueError: ours \(at memcache_kv\.journal\.writer:\d+\); it stops now",
        line,
    )
