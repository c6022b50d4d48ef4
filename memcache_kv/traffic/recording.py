r"""Recordings: files of JSON lines with what clients asked and were answered.

``{"recording":1,"began":1795234900.5}`` and then a line for each call:
``{"at":0.5,"took":0.0001,"connection":1,"command":"get","asked":"get a\r\n","answered":"END\r\n"}``

Bytes that are not valid UTF-8 are in base64, as `asked64` or `answered64`. See docs/reference/recordings.md.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Annotated, BinaryIO, Self, TypeAlias

import msgspec

from memcache_kv.errors import MemcacheKVError
from memcache_kv.traffic.conversation import Call, Conversation
from memcache_kv.traffic.wire import UNKNOWN_NAME, WireRequest
from memcache_kv.unpatched import threading, time

RECORDING_VERSION = 1
RECORDING_MODE = 0o600
"""The permissions of a recording: it has keys, values and passwords in it."""
SECOND_DIGITS = 6
"""How many digits of a second are written."""

_Number: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
_Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]


class RecordingError(MemcacheKVError):
    """A file can't be read, or is not a recording. The text names the file and the line."""


class RecordingHead(msgspec.Struct, forbid_unknown_fields=True):
    """The first line: the version of the form, and when the recording began, in unix seconds."""

    recording: int
    began: float


class CallLine(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """One call. The times are in seconds."""

    at: _Seconds
    """When the request was complete, counted from the beginning of the recording."""
    took: _Seconds
    """How long it took until the reply was complete, or until it was clear that there is none."""
    connection: _Number
    command: str
    asked: str | None = None
    asked64: bytes | None = None
    answered: str | None = None
    answered64: bytes | None = None


_encode = msgspec.json.Encoder().encode
_decode_head = msgspec.json.Decoder(RecordingHead).decode
_decode_call = msgspec.json.Decoder(CallLine).decode


def _text_or_bytes(data: bytes) -> tuple[str | None, bytes | None]:
    try:
        return data.decode(), None
    except UnicodeDecodeError:
        return None, data


def call_line(call: Call, began: float) -> bytes:
    """Return the line of a call, with its line feed. began: when the recording began, in monotonic seconds."""
    asked, asked64 = _text_or_bytes(call.request.data)
    answered, answered64 = _text_or_bytes(call.reply)
    at = max(0.0, round(call.asked_at - began, SECOND_DIGITS))
    took = max(0.0, round(call.answered_at - call.asked_at, SECOND_DIGITS))
    line = CallLine(at, took, call.connection, call.request.command, asked, asked64, answered, answered64)
    return _encode(line) + b"\n"


class Recorder:
    """Writes a recording: a context manager, and a listener that is called with each call.

    path: the file, which is replaced if it exists; only its owner may read it. clock: the one that the calls' times are
    of. Any thread may call it. A call blocks as a write to a buffered file does, and raises OSError as that does; after
    the end it does nothing.
    """

    def __init__(self, path: Path | str, clock: Callable[[], float] | None = None) -> None:
        self.path = Path(path)
        self.calls = 0
        """How many calls were written."""
        self._clock = clock
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._began = 0.0

    def __enter__(self) -> Self:
        """Create the file. Raises OSError."""
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, RECORDING_MODE)
        self._file = os.fdopen(fd, "wb")
        self._began = time.clock_gettime(time.CLOCK_MONOTONIC) if self._clock is None else self._clock()
        self._file.write(_encode(RecordingHead(RECORDING_VERSION, round(time.time(), SECOND_DIGITS))) + b"\n")
        return self

    def __call__(self, call: Call) -> None:
        """Write a call."""
        line = call_line(call, self._began)
        with self._lock:
            if self._file is not None:
                self._file.write(line)
                self.calls += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file. Raises OSError if the rest can't be written."""
        with self._lock:
            file, self._file = self._file, None
        if file is not None:
            file.close()


class RecordedCall:
    """A call of a recording. line: the number of its line in the file."""

    __slots__ = ("line", "at", "connection", "request", "reply", "is_whole")

    def __init__(self, line: int, written: CallLine) -> None:
        self.line = line
        self.at = written.at
        self.connection = written.connection
        asked = written.asked.encode() if written.asked is not None else written.asked64 or b""
        self.reply = written.answered.encode() if written.answered is not None else written.answered64 or b""
        self.request = WireRequest(UNKNOWN_NAME, (), asked, False)
        self.is_whole = False
        """Whether the reply is complete: there was none, or all of it came before the connection ended."""
        conversation = Conversation()
        requests = conversation.asked(asked)
        if len(requests) == 1 and not conversation.incomplete and requests[0].command == written.command:
            self.request = requests[0]
            calls = conversation.answered(self.reply)
            is_answered = conversation.is_known and [call.reply for call in calls] == [self.reply]
            self.is_whole = is_answered or not (self.request.has_reply or self.reply)
        elif written.command != UNKNOWN_NAME:
            raise ValueError(f"the bytes are not one request of the command {written.command}")


class Recording:
    """A recording that was read once and found to be whole. Only the places of its lines are kept in memory.

    path: the file. A last line without a line end, as of a recorder that was killed, is left out.

    Raises RecordingError if the file can't be read or is not a recording.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.began = 0.0
        """When it began, in unix seconds."""
        self.is_cut_off = False
        """Whether the last line is not complete."""
        self.calls_by_connection: Counter[int] = Counter()
        self._offsets, self._times = array("Q"), array("d")
        try:
            with path.open("rb") as file:
                self._read(file)
        except OSError as error:
            raise RecordingError(f"{path}: {error.strerror or error}") from None

    def __len__(self) -> int:
        return len(self._offsets)

    def _read(self, file: BinaryIO) -> None:
        head = file.readline()
        try:
            parsed = _decode_head(head)
        except msgspec.DecodeError:
            raise RecordingError(f"{self.path} is not a recording: its first line is not that of one") from None
        if parsed.recording != RECORDING_VERSION:
            raise RecordingError(f"{self.path} is a recording of version {parsed.recording}, which is not known here")
        self.began = parsed.began
        offset = len(head)
        for line in file:
            if not line.endswith(b"\n"):
                self.is_cut_off = True
                break
            call = self._call(len(self) + 2, line)
            self._offsets.append(offset)
            self._times.append(call.at)
            self.calls_by_connection[call.connection] += 1
            offset += len(line)

    def _call(self, number: int, line: bytes) -> RecordedCall:
        try:
            return RecordedCall(number, _decode_call(line))
        except ValueError as error:  # msgspec's are among them
            raise RecordingError(f"{self.path}, line {number}: {error}") from None

    def calls(self) -> Iterator[RecordedCall]:
        """Yield all calls in the order in which they were asked. Raises RecordingError and OSError."""
        order = sorted(range(len(self)), key=self._times.__getitem__)
        with self.path.open("rb") as file:
            for index in order:
                file.seek(self._offsets[index])
                yield self._call(index + 2, file.readline())
