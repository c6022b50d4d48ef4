"""What the replies of a short time said, as the processes count it and send it to the first one."""

from __future__ import annotations

from collections import Counter, defaultdict

from clients.load_test.wires.wire import Outcome

MESSAGES_KEPT = 10


class Tally:
    """Counts replies: by their latency in µs, by their outcome, and errors by their message."""

    __slots__ = ("latencies", "outcomes", "messages")

    def __init__(self) -> None:
        """Count from zero."""
        self.latencies: defaultdict[int, int] = defaultdict(int)
        self.outcomes = [0] * len(Outcome)
        self.messages: Counter[str] = Counter()

    def count_error(self, message: str, count: int = 1) -> None:
        """Count requests that failed without a reply, or with one that is an error."""
        self.outcomes[Outcome.ERROR] += count
        self.explain(message, count)

    def explain(self, message: str, count: int = 1) -> None:
        """Keep the message of errors that are counted, for the first few different ones."""
        if message in self.messages or len(self.messages) < MESSAGES_KEPT:
            self.messages[message] += count

    @property
    def replies(self) -> int:
        """The number of requests that are done, well or not."""
        return sum(self.outcomes)
