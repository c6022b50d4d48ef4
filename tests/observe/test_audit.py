"""The audit log: its lines, and that it is never the reason that a request fails."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from memcache_kv.auth.access import Origin
from memcache_kv.auth.users import Users
from memcache_kv.errors import ConfigError
from memcache_kv.observe.audit import COMMAND_LIMIT_BYTES, STRANGERS_LIMIT, AuditLog
from memcache_kv.observe.log import Log
from memcache_kv.protocol.binary.frames import Opcode
from memcache_kv.protocol.text.login import GuardedTextProtocol
from tests.protocol.binary.binary_packets import BinaryConversation, Packet
from tests.protocol.context_factory import Conversation, Surroundings
from tests.protocol.credentials import AtOnce

FAR = Origin("tcp:10.0.0.9:1", is_local=False)


class Audited:
    """Protocols with an audit log, at a time that stands still."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 1_700_000_000.25
        self.stream = io.StringIO()
        self.log = AuditLog(path, Log(0, self.stream), lambda: self.now)
        self.around = Surroundings()
        self.around.context.audit = self.log

    def text(self, users: Users | None = None, origin: Origin = FAR) -> Conversation:
        talk = Conversation(self.around)
        if users is not None:
            talk.protocol = GuardedTextProtocol(self.around.context, 30, AtOnce(users))
        talk.protocol.permit(origin)
        return talk

    def rows(self, path: Path | None = None) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (path or self.path).read_text().splitlines()]


@pytest.fixture
def audited(tmp_path: Path) -> Audited:
    return Audited(tmp_path / "audit")


@pytest.fixture
def users(tmp_path: Path) -> Users:
    path = tmp_path / "users"
    path.write_bytes(b"ann:s3cret:admin\n")
    return Users(path)


def login(user: bytes, password: bytes) -> bytes:
    token = user + b" " + password
    return b"set auth 0 0 %d\r\n%b\r\n" % (len(token), token)


def test_a_login_and_an_admin_command_have_a_line_each(audited: Audited, users: Users) -> None:
    audited.text(users).feed(login(b"ann", b"s3cret") + b"flush_all 10\r\nset a 0 0 5\r\nvalue\r\nget a\r\nstats\r\n")
    base = {"time": "2023-11-14T22:13:20.250Z", "address": "tcp:10.0.0.9:1", "user": "ann"}
    assert audited.rows() == [
        {**base, "event": "login", "outcome": "ok"},
        {**base, "event": "command", "outcome": "allowed", "command": "flush_all 10"},
    ]


def test_a_refused_command_has_a_line(audited: Audited) -> None:
    audited.text().feed(b"stats conns\r\nget a\r\nset a 0 0 1\r\nx\r\n")
    [row] = audited.rows()
    assert (row["outcome"], row["command"], row["user"]) == ("refused", "stats conns", None)


def test_packets_have_the_same_lines(audited: Audited, users: Users) -> None:
    talk = BinaryConversation(audited.around, AtOnce(users))
    talk.protocol.permit(FAR)
    talk.ask(Packet(Opcode.SASL_AUTH, b"PLAIN", value=b"\0ann\0s3cret"), Packet(Opcode.SET, b"a", bytes(8), b"value"))
    talk.ask(Packet(Opcode.FLUSH, extras=b"\0\0\0\x0a"), Packet(Opcode.STAT, b"detail on"))
    assert [row.get("command", row["event"]) for row in audited.rows()] == ["login", "FLUSH 10", "STAT detail on"]


def test_a_failed_login_is_named_only_where_there_is_such_a_user(audited: Audited, users: Users) -> None:
    audited.text(users).feed(login(b"ann", b"wr0ng") + login(b"s3cret", b"ann"))
    talk = BinaryConversation(audited.around, AtOnce(users))
    talk.ask(Packet(Opcode.SASL_AUTH, b"PLAIN", value=b"\0s3cret\0ann"))
    assert [(row["outcome"], row["user"]) for row in audited.rows()] == [
        ("failed", "ann"),
        ("failed", None),
        ("failed", None),
    ]
    assert "s3cret" not in audited.path.read_text()
    assert "wr0ng" not in audited.path.read_text()


def test_a_command_is_escaped_and_cut(audited: Audited) -> None:
    audited.text(origin=Origin()).feed(b"flush_all \x1b[2J\xff" + b"x" * 1000 + b"\r\n")
    data = audited.path.read_bytes()
    assert data.count(b"\n") == 1
    assert all(32 <= byte < 127 or byte == 10 for byte in data)
    assert len(audited.rows()[0]["command"]) < COMMAND_LIMIT_BYTES + 10


def test_strangers_cannot_fill_the_disk_and_what_was_left_out_is_counted(audited: Audited) -> None:
    talk = audited.text()
    for _ in range(STRANGERS_LIMIT + 7):
        talk.feed(b"flush_all\r\n")
    assert len(audited.rows()) == STRANGERS_LIMIT
    audited.text(origin=Origin()).feed(b"flush_all\r\n")
    assert [row.get("left_out") for row in audited.rows()[-2:]] == [None, 7]
    audited.now += 1
    talk.feed(b"flush_all\r\n")
    assert audited.rows()[-1]["outcome"] == "refused"


def test_reopen_writes_to_the_new_file(audited: Audited) -> None:
    admin = audited.text(origin=Origin())
    admin.feed(b"flush_all\r\n")
    renamed = audited.path.rename(audited.path.with_suffix(".1"))
    admin.feed(b"flush_all 1\r\n")
    audited.log.reopen()
    admin.feed(b"flush_all 2\r\n")
    assert [row["command"] for row in audited.rows(renamed)] == ["flush_all", "flush_all 1"]
    assert [row["command"] for row in audited.rows()] == ["flush_all 2"]


def test_a_file_that_cannot_be_opened_again_is_logged_and_the_old_one_kept(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    audited = Audited(tmp_path / "logs" / "audit")
    moved = (tmp_path / "logs").rename(tmp_path / "moved") / "audit"
    audited.log.reopen()
    audited.text(origin=Origin()).feed(b"flush_all\r\n")
    assert len(audited.rows(moved)) == 1
    assert "the old file stays in use" in audited.stream.getvalue()


def test_an_appended_file_is_for_its_owner_alone(audited: Audited) -> None:
    assert audited.path.stat().st_mode & 0o077 == 0
    audited.text(origin=Origin()).feed(b"flush_all\r\n")
    again = Audited(audited.path)
    again.text(origin=Origin()).feed(b"flush_all\r\n")
    assert len(again.rows()) == 2


def test_a_full_disk_fails_no_request_and_is_logged() -> None:
    audited = Audited(Path("/dev/full"))
    assert audited.text(origin=Origin()).feed(b"flush_all\r\nget a\r\n") == b"OK\r\nEND\r\n"
    assert "can't write to the audit log" in audited.stream.getvalue()


def test_a_pipe_that_nobody_reads_holds_up_nobody(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="can't write the audit log"):
        Audited(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        audited = Audited(path)
        talk = audited.text(origin=Origin())
        for _ in range(1000):  # more than a pipe holds
            assert talk.feed(b"flush_all\r\n") == b"OK\r\n"
    finally:
        os.close(reader)
    assert "can't write to the audit log" in audited.stream.getvalue()
