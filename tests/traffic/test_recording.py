"""What is recorded is read back as it was, and what is no recording is refused."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from memcache_kv.traffic.conversation import Call, Conversation
from memcache_kv.traffic.recording import Recorder, Recording, RecordingError
from memcache_kv.traffic.wire import WireRequest
from tests.protocol.binary.binary_packets import Packet, Reply

GET = Packet(0x00, b"a").to_bytes()
MISS = Reply(0x00, 1, value=b"Not found").to_bytes()
HEAD = '{"recording":1,"began":1.5}\n'
CALL = '{"at":0.5,"took":0.1,"connection":1,"command":"get","asked":"get a\\r\\n","answered":"END\\r\\n"}\n'


def call(data: bytes, reply: bytes, connection: int = 1, asked_at: float = 0.0) -> Call:
    return Call(Conversation().asked(data)[0], reply, asked_at, asked_at, connection)


def written(path: Path, *calls: Call) -> Recording:
    with Recorder(path, lambda: 0.0) as recorder:
        for one in calls:
            recorder(one)
    return Recording(path)


def test_a_recording_is_lines_of_json_that_a_person_can_read(tmp_path: Path) -> None:
    clock = iter([100.0])
    conversation = Conversation(3, lambda: 100.25)
    conversation.asked("set ä 0 0 2\r\nhi\r\n".encode())
    with Recorder(tmp_path / "calls", lambda: next(clock)) as recorder:
        recorder(conversation.answered(b"STORED\r\n")[0])
        recorder(call(GET, MISS, asked_at=101.0))
    head, first, second = map(json.loads, (tmp_path / "calls").read_text().splitlines())
    assert (head["recording"], head.keys()) == (1, {"recording", "began"})
    assert first == {
        "at": 0.25,
        "took": 0.0,
        "connection": 3,
        "command": "set",
        "asked": "set ä 0 0 2\r\nhi\r\n",
        "answered": "STORED\r\n",
    }
    assert second.keys() == {"at", "took", "connection", "command", "asked64", "answered64"}
    assert recorder.calls == 2
    assert (tmp_path / "calls").stat().st_mode & 0o777 == 0o600


def test_calls_come_back_in_the_order_in_which_they_were_asked(tmp_path: Path) -> None:
    recording = written(
        tmp_path / "calls",
        call(b"get b\r\n", b"END\r\n", 2, asked_at=2.0),
        call(b"mg a q\r\n", b"", 1, asked_at=1.0),
        call(b"get c\r\n", b"END\r\n", 2, asked_at=2.0),
        call(GET, MISS, 3, asked_at=1.5),
    )
    calls = list(recording.calls())
    assert [one.request.data for one in calls] == [b"mg a q\r\n", GET, b"get b\r\n", b"get c\r\n"]
    assert [(one.line, one.connection, one.reply) for one in calls[:2]] == [(3, 1, b""), (5, 3, MISS)]
    assert all(one.is_whole for one in calls)
    assert recording.calls_by_connection == {1: 1, 2: 2, 3: 1}


@pytest.mark.parametrize("data", [b"", b"\x00\xff", b"\x80" * 5, "ä\n\u2028".encode(), b'"\\'])
def test_bytes_of_every_kind_come_back(tmp_path: Path, data: bytes) -> None:
    recording = written(tmp_path / "calls", Call(WireRequest("?", (), data, False), data + b"x", 0, 0, 1))
    (one,) = recording.calls()
    assert (one.request.data, one.reply, one.request.command) == (data, data + b"x", "?")
    assert not one.is_whole


@pytest.mark.parametrize(
    ("reply", "is_whole"), [(b"END\r\n", True), (b"", False), (b"EN", False), (b"STORED\r\n", False)]
)
def test_a_reply_that_is_not_whole_is_known_as_such(tmp_path: Path, reply: bytes, is_whole: bool) -> None:
    (one,) = written(tmp_path / "calls", call(b"get a\r\n", reply)).calls()
    assert one.is_whole is is_whole


def test_calls_after_the_end_are_not_written(tmp_path: Path) -> None:
    with Recorder(tmp_path / "calls") as recorder:
        pass
    recorder(call(b"get a\r\n", b"END\r\n"))
    assert len(Recording(tmp_path / "calls")) == 0


def test_several_threads_may_write(tmp_path: Path) -> None:
    with Recorder(tmp_path / "calls", lambda: 0.0) as recorder:

        def write() -> None:
            for _ in range(200):
                recorder(call(b"get a\r\n", b"END\r\n"))

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(Recording(tmp_path / "calls")) == recorder.calls == 800


def test_a_last_line_that_is_not_complete_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "calls").write_text(HEAD + CALL + CALL[:-1])
    recording = Recording(tmp_path / "calls")
    assert (len(recording), recording.is_cut_off) == (1, True)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "is not a recording"),
        (CALL, "is not a recording"),
        ("\x7fELF", "is not a recording"),
        (HEAD.replace(":1,", ":2,"), "of version 2"),
        (HEAD + CALL + "{}\n", "line 3: Object missing required field"),
        (HEAD + "garbage\n", "line 2: JSON is malformed"),
        (HEAD + CALL.replace('"get"', '"set"'), "line 2: the bytes are not one request of the command set"),
        (HEAD + CALL.replace("get a", "get a\\r\\nget b"), "line 2: the bytes are not one request"),
        (HEAD + CALL.replace("0.5", "-0.5"), "line 2: Expected `float` >= 0.0"),
        (HEAD + CALL.replace("asked", "ased"), "line 2: Object contains unknown field `ased`"),
    ],
)
def test_what_is_no_recording_is_refused_with_its_line(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "calls").write_text(content)
    with pytest.raises(RecordingError, match=complaint):
        Recording(tmp_path / "calls")


def test_a_missing_file_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="No such file"):
        Recording(tmp_path / "nothing")
