"""Replay a recording: ask another server the same, in the same order, and compare its answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from memcache_kv.server.health import Address
from memcache_kv.traffic.adaptation import CasIds, adapted
from memcache_kv.traffic.comparison import are_alike
from memcache_kv.traffic.recording import RecordedCall, Recording
from memcache_kv.traffic.target import ANSWER_TIMEOUT_SECONDS, TargetAnswer, TargetConnection
from memcache_kv.traffic.wire import UNKNOWN_NAME
from memcache_kv.unpatched import time

NOT_SENT = {"shutdown": "shutdown", "watch": "watch", UNKNOWN_NAME: "bytes that are no request"}
"""Commands that are left out, and what the summary calls them."""
UNFINISHED = "requests whose reply was not recorded whole"


class Deviation(NamedTuple):
    """A call that the other server answers differently.

    other: its reply; trouble: what went wrong, if something did.
    """

    call: RecordedCall
    other: bytes
    trouble: str


class ReplayTally:
    """What came of a replay. Counts calls."""

    def __init__(self) -> None:
        self.alike = 0
        self.different = 0
        self.not_compared: Counter[str] = Counter()
        """By the reason."""


class Replaying:
    """One replay. A context manager, which closes its connections.

    recording: what to ask; address: the other server; keeps_pace: whether to ask nothing earlier than it was asked in
    the recording, counted from the beginning; timeout: how many seconds to wait for each answer.
    """

    def __init__(
        self,
        recording: Recording,
        address: Address,
        keeps_pace: bool = False,
        timeout: float = ANSWER_TIMEOUT_SECONDS,
    ) -> None:
        self.tally = ReplayTally()
        self._recording, self._address, self._keeps_pace = recording, address, keeps_pace
        self._timeout = timeout
        self._connections: dict[int, TargetConnection] = {}
        self._left = Counter(recording.calls_by_connection)
        """How many calls of each connection are still to come."""
        self._ids = CasIds()
        self._began = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._connections:
            self._connections.popitem()[1].close()

    def run(self, on_difference: Callable[[Deviation], None], on_call: Callable[[int], None]) -> ReplayTally:
        """Ask everything, one request after the other, and return what came of it.

        on_difference: called with each difference; on_call: called after each call, with how many there were. Raises
        Unreachable, RecordingError and OSError.
        """
        self._began = time.monotonic()
        for number, call in enumerate(self._recording.calls(), 1):
            deviation = self._replay(call)
            if deviation is not None:
                on_difference(deviation)
            on_call(number)
        return self.tally

    def _replay(self, call: RecordedCall) -> Deviation | None:
        """Ask what was asked in a call, and return the difference, if there is one."""
        try:
            if call.request.command in NOT_SENT and not self._is_answered_line(call):
                self.tally.not_compared[NOT_SENT[call.request.command]] += 1
                return None
            answer = self._ask(call)
        finally:
            self._count_off(call.connection)
        if not call.is_whole:
            self.tally.not_compared[UNFINISHED] += 1
            return None
        seconds = max(call.at, time.monotonic() - self._began)
        is_alike = are_alike(call.request, call.reply, answer.reply, self._ids, seconds)
        if is_alike and not answer.trouble:
            self.tally.alike += 1
            return None
        self.tally.different += 1
        return Deviation(call, answer.reply, answer.trouble)

    @staticmethod
    def _is_answered_line(call: RecordedCall) -> bool:
        """Tell whether a call of no known command is a line that servers answer with an error."""
        return call.request.command == UNKNOWN_NAME and call.request.has_reply

    def _ask(self, call: RecordedCall) -> TargetAnswer:
        now = time.monotonic() - self._began
        if self._keeps_pace and now < call.at:
            time.sleep(call.at - now)
        connection = self._connections.get(call.connection)
        if connection is None:
            connection = self._connections[call.connection] = TargetConnection(self._address, self._timeout)
        shift = round(time.time() - self._recording.began - call.at)
        answer = connection.ask(adapted(call.request, self._ids, shift))
        if not connection.is_usable:
            self._connections.pop(call.connection).close()
        return answer

    def _count_off(self, number: int) -> None:
        """Close the connection of a recorded one that asks nothing more."""
        self._left[number] -= 1
        if not self._left[number] and number in self._connections:
            self._connections.pop(number).close()
