"""`memcache-kv replay` sends a recording to another server, and shows what it answers differently."""

from __future__ import annotations

import json
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from memcache_kv import Server
from memcache_kv.cli import main
from memcache_kv.protocol.binary.frames import Opcode, Status
from memcache_kv.traffic.conversation import Conversation
from tests.ports import free_port
from tests.program import poll_until
from tests.protocol.binary.binary_packets import Packet, Reply
from tests.traffic.conftest import MakeAddress

Line = tuple[bytes, bytes]
"""What was asked and answered."""


def recording(path: Path, *lines: Line, began: float | None = None, connection: int = 1, at: float = 0.0) -> Path:
    """Write a recording by hand."""
    rows = [json.dumps({"recording": 1, "began": time.time() if began is None else began})]
    for asked, answered in lines:
        command = Conversation().asked(asked)[0].command
        text = {"asked": asked.decode("latin-1"), "answered": answered.decode("latin-1")}
        rows.append(json.dumps({"at": at, "took": 0.0, "connection": connection, "command": command, **text}))
    path.write_text("\n".join(rows) + "\n")
    return path


def joined(first: Path, *others: Path) -> Path:
    """Append the lines of other recordings to a first one."""
    with first.open("a") as file:
        for other in others:
            file.write(other.read_text().partition("\n")[2])
    return first


def replay(file: Path, address: tuple[str, int], *flags: str) -> int:
    return main(["replay", str(file), "--against", f"{address[0]}:{address[1]}", *flags])


STORED = (b"set a 0 0 5\r\nhello\r\n", b"STORED\r\n")
HIT = (b"get a\r\n", b"VALUE a 0 5\r\nhello\r\nEND\r\n")


def test_nothing_is_shown_of_a_server_that_answers_alike(
    tmp_path: Path, ours: MakeAddress, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(recording(tmp_path / "calls", STORED, HIT), ours()) == 0
    assert capsys.readouterr().out == "2 requests on 1 connection: 2 answered alike, 0 differently\n"


def test_a_difference_is_shown_as_it_was_and_as_it_is(
    tmp_path: Path, ours: MakeAddress, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = (b"get a\r\n", b"VALUE a 0 5\r\nhullo\r\nEND\r\n")
    assert replay(recording(tmp_path / "calls", STORED, wrong, HIT), ours()) == 1
    assert capsys.readouterr().out.split("\n\n")[0].splitlines() == [
        "difference 1: connection 1, 0.000 s, line 3 of the recording",
        "  asked:    get a",
        "  recorded: VALUE a 0 5",
        "            hullo",
        "            END",
        "  replayed: VALUE a 0 5",
        "            hello",
        "            END",
    ]


def test_a_difference_in_packets_is_shown_in_words(
    tmp_path: Path, ours: MakeAddress, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Packet(Opcode.GET, b"k\n", opaque=7).to_bytes()
    head = {"at": 0, "took": 0, "connection": 1, "command": "get"}
    answered = Reply(Opcode.GET, Status.SUCCESS, extras=bytes(4), value=b"hi", cas=12, opaque=7).to_bytes()
    line = {**head, "asked64": b64encode(asked).decode(), "answered64": b64encode(answered).decode()}
    file = recording(tmp_path / "calls")
    file.write_text(file.read_text() + json.dumps(line) + "\n")
    assert replay(file, ours()) == 1
    assert capsys.readouterr().out.splitlines()[1:4] == [
        "  asked:    GET opaque=7 key=k\\n",
        "  recorded: GET SUCCESS opaque=7 cas=12 extras=00000000 value=hi",
        "  replayed: GET NOT_FOUND opaque=7 value=Not found",
    ]


def test_only_so_many_differences_are_shown_and_all_are_counted(
    tmp_path: Path, ours: MakeAddress, capsys: pytest.CaptureFixture[str]
) -> None:
    file = recording(tmp_path / "calls", *[HIT] * 5)
    assert replay(file, ours(), "--show", "2") == 1
    out = capsys.readouterr().out
    assert out.count("difference ") == 2
    assert "5 requests on 1 connection: 0 answered alike, 5 differently\n" in out


def test_a_silent_request_that_is_answered_is_a_difference(
    tmp_path: Path, ours: MakeAddress, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = (b"mg a v q\r\n", b"")
    assert replay(recording(tmp_path / "calls", STORED, quiet), ours()) == 1
    assert "recorded: (nothing)\n  replayed: VA 5\n" in capsys.readouterr().out


def test_silent_requests_have_taken_effect_before_the_next_one_is_asked(tmp_path: Path, ours: MakeAddress) -> None:
    silent = [(b"set a 0 0 %d noreply\r\n%b\r\n" % (size, b"x" * size), b"") for size in (1, 5000)]
    file = recording(tmp_path / "calls", *silent)
    other = recording(tmp_path / "other", (b"mg a s\r\n", b"HD s5000\r\n"), connection=2)
    assert replay(joined(file, other), ours()) == 0


def test_it_makes_as_many_connections_as_were_recorded_and_closes_them(tmp_path: Path) -> None:
    file = joined(*(recording(tmp_path / f"calls{number}", STORED, HIT, connection=number) for number in (1, 2, 7)))
    with Server() as server:
        before = int(server.stats()["total_connections"])
        assert replay(file, server.address) == 0
        assert int(server.stats()["total_connections"]) == before + 3
        poll_until(lambda: server.stats()["curr_connections"] == "0", "the connections are closed")


def test_what_can_not_be_compared_is_left_out_and_counted(
    tmp_path: Path, ours: MakeAddress, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [(b"shutdown\r\n", b""), (b"watch fetchers\r\n", b"OK\r\n"), (b"\x16\x03", b""), (b"get a\r\n", b"EN")]
    assert replay(recording(tmp_path / "calls", *lines, (b"nonsense\r\n", b"ERROR\r\n")), ours()) == 0
    assert capsys.readouterr().out.splitlines() == [
        "5 requests on 1 connection: 1 answered alike, 0 differently",
        "not compared: 1 (bytes that are no request)",
        "not compared: 1 (requests whose reply was not recorded whole)",
        "not compared: 1 (shutdown)",
        "not compared: 1 (watch)",
    ]


def test_quit_closes_the_connection_and_the_next_request_has_a_new_one(tmp_path: Path, ours: MakeAddress) -> None:
    assert replay(recording(tmp_path / "calls", STORED, (b"quit\r\n", b""), HIT), ours()) == 0


def test_items_with_an_absolute_expiry_time_live_as_long_as_they_did(tmp_path: Path, ours: MakeAddress) -> None:
    began = time.time() - 100_000
    alive = (b"set a 0 %d 5\r\nhello\r\n" % (began + 50), b"STORED\r\n")
    expired = (b"set b 0 %d 5\r\nhello\r\n" % (began - 50), b"STORED\r\n")
    assert (
        replay(recording(tmp_path / "calls", alive, expired, HIT, (b"get b\r\n", b"END\r\n"), began=began), ours()) == 0
    )


def test_with_keep_pace_nothing_is_asked_early(tmp_path: Path, ours: MakeAddress) -> None:
    address = ours()
    started = time.monotonic()
    assert replay(recording(tmp_path / "calls", STORED, at=0.2), address, "--keep-pace") == 0
    assert time.monotonic() - started >= 0.2


def test_a_last_line_that_is_cut_off_is_told(
    tmp_path: Path, ours: MakeAddress, capsys: pytest.CaptureFixture[str]
) -> None:
    file = recording(tmp_path / "calls", STORED, HIT)
    file.write_text(file.read_text()[:-1])
    assert replay(file, ours()) == 0
    assert "the last line is not complete, and is left out" in capsys.readouterr().err


# What goes wrong


@contextmanager
def peer(reply: bytes | None) -> Iterator[tuple[str, int]]:
    """A peer that answers whatever it reads with these bytes; None closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while connection.recv(1 << 16) and reply is not None:
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()
        thread.join()


@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        (b"", "  replayed: (no answer within 0.2 s)"),
        (b"EN", "  replayed: EN\n            (no answer within 0.2 s)"),
        (None, "  replayed: (the connection was closed)"),
        (b"STORED\r\n", "  replayed: STORED\n            (this is no reply to such a request)"),
        (b"\x81\x00", "  replayed: \\x81\\x00\n            (no answer within 0.2 s)"),
    ],
)
def test_a_server_that_does_not_answer_properly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reply: bytes | None, shown: str
) -> None:
    with peer(reply) as address:
        assert replay(recording(tmp_path / "calls", HIT), address, "--timeout", "0.2") == 1
    assert shown in capsys.readouterr().out


def test_a_server_that_can_not_be_reached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = ("127.0.0.1", free_port("127.0.0.1"))
    assert replay(recording(tmp_path / "calls", HIT), address) == 3
    assert f"memcache-kv replay: can't connect to 127.0.0.1:{address[1]}: Connection refused" in capsys.readouterr().err


def test_a_file_that_is_no_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "calls").write_text("hello\n")
    assert replay(tmp_path / "calls", ("127.0.0.1", 1)) == 3
    assert "is not a recording" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["calls"],
        ["calls", "--against", "a:99999"],
        ["calls", "--against", "a", "--timeout", "0"],
        ["calls", "--against", "a", "--show", "x"],
    ],
)
def test_wrong_flags(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["replay", *flags])
    assert ended.value.code == 2
