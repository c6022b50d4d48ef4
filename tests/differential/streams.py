"""Streams: batches of requests with time passing between them."""

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from memcache_kv.protocol.numbers import signed32
from tests.differential import requests
from tests.differential.requests import Request
from tests.integration.known_differences import answered_alike_before

MOVES = (1, 1, 1, 2, 4, 5, 9, 10, 29, 30, 31, 60, 100, 2_592_000)
PIECES = (1, 2, 3, 7, 20, 100)


@dataclass(frozen=True)
class Move:
    """Time passes."""

    seconds: int


@dataclass(frozen=True)
class Batch:
    """Requests sent one after the other without waiting, cut in pieces of these sizes and the rest."""

    requests: tuple[Request, ...]
    pieces: tuple[int, ...] = ()

    @property
    def sent(self) -> bytes:
        return b"".join(request.sent for request in self.requests)

    @property
    def filling(self) -> bytes:
        """Lines to end a data block that is too short: enough for the longest announced."""
        longest = max(
            (request.length for request in self.requests if request.length <= requests.LARGEST_BLOCK), default=0
        )
        return (b"f" * 98 + b"\r\n") * (longest // 100 + 2) if longest else b""


Step = Move | Batch
Stream = tuple[Step, ...]


class Flushes:
    """Keeps apart what flush_all does in both from what it does in memcached alone.

    No time passes up to the very second in which a delayed flush takes effect; once one has hidden older items, none is
    delayed; an immediate one comes first in a second of its own.
    """

    def __init__(self) -> None:
        self.now = 0
        self.moved = False
        self.due: set[int] = set()
        self.hidden = False
        """Whether memcached may hold items that it only does not show."""

    def move(self, seconds: int) -> Move:
        while self.now + seconds in self.due:
            seconds += 1
        self.now += seconds
        self.moved = True
        return Move(seconds)

    def batch(self, batch: Batch) -> list[Step]:
        kept: list[Request] = []
        first: list[Request] = []
        self.hidden = self.hidden or (self.moved and any(_delay(request) == 0 for request in batch.requests))
        for request in batch.requests:
            delay = _delay(request)
            if delay is None:
                kept.append(request)
            elif delay > 0:
                if not self.hidden and not any(due <= self.now for due in self.due):
                    self.due.add(self.now + delay - 1)
                    kept.append(request)
            else:
                (first if self.moved else kept).append(request)
        ordered = Batch((*first, *kept), batch.pieces)
        return [self.move(1), ordered] if first else [ordered]


def with_questions(steps: list[Step]) -> list[Step]:
    """The steps, with a question about each item behind what may store it if any request asks for access metadata."""
    batches = [step for step in steps if isinstance(step, Batch)]
    if not any(request.asks_for_access for batch in batches for request in batch.requests):
        return steps
    return [replace(step, requests=_questioned(step)) if isinstance(step, Batch) else step for step in steps]


def _questioned(batch: Batch) -> tuple[Request, ...]:
    pairs = ((request, request.question) for request in batch.requests)
    return tuple(one for pair in pairs for one in pair if one is not None)


def _parted(batch: Batch) -> list[Batch]:
    """Batches in which only the first request may be one that has to be sent alone."""
    parts: list[list[Request]] = []
    for request in batch.requests:
        if request.is_alone or not parts:
            parts.append([])
        parts[-1].append(request)
    return [Batch(tuple(part), batch.pieces) for part in parts]


def _delay(request: Request) -> int | None:
    """How many seconds from now a request flushes all; 0 is now, and None that it does not."""
    words = request.words
    if words[:1] != [b"flush_all"] or b"flush_all" not in request.line.split(b" "):
        return None
    if len(words) < 2 or (len(words) == 2 and words[1] == b"noreply"):
        return 0
    if words[1] == b"<now+20>":
        return 20
    number = signed32(words[1])
    return None if number is None else max(0, number)


@st.composite
def batches(draw: st.DrawFn, kinds: st.SearchStrategy[Request]) -> Batch:
    chosen = draw(st.lists(kinds, min_size=1, max_size=7))
    pieces = draw(st.lists(st.sampled_from(PIECES), max_size=4)) if draw(st.booleans()) else []
    return Batch(tuple(chosen), tuple(pieces))


@st.composite
def streams(draw: st.DrawFn, kinds: st.SearchStrategy[Request], timed: bool) -> Stream:
    """Up to six batches of these kinds of requests; `timed` is whether time can be moved."""
    flushes = Flushes()
    steps: list[Step] = []
    for batch in draw(st.lists(batches(kinds), min_size=1, max_size=6)):
        if timed and steps and draw(st.booleans()):
            steps.append(flushes.move(draw(st.sampled_from(MOVES))))
        for step in flushes.batch(batch) if timed else [batch]:
            steps += _parted(step) if isinstance(step, Batch) else [step]
    return tuple(with_questions(steps))


def kinds(is_old: bool) -> dict[str, st.SearchStrategy[Request]]:
    """Classic requests, and meta ones among them; an old memcached gets those that its releases answer alike."""
    meta = st.one_of(requests.any_meta, requests.any_meta, requests.classic)
    if is_old:
        return {kind: some.filter(_is_old) for kind, some in (("classic", requests.classic), ("meta", meta))}
    return {
        "classic": requests.mixed(requests.classic, requests.SMALL),
        "meta": requests.mixed(meta, requests.SMALL + requests.SMALL_META),
    }


def _is_old(request: Request) -> bool:
    """Whether old releases answer it alike.

    A delayed flush brings back what they only hid for the stream before; a quiet ma that makes an item is not silent.
    """
    words = request.line.split()
    if not requests.is_compared(request):
        return False
    if _delay(request) or (words[:1] == [b"ma"] and b"q" in words and any(word.startswith(b"N") for word in words)):
        return False
    whole = len(request.block) in (0, request.length + 2)
    return whole and len(request.line + request.end) >= 4 and answered_alike_before(request.line_read)


def described(stream: Stream) -> str:
    """A stream as one reads it, without the data that matters least."""
    lines = []
    for step in stream:
        if isinstance(step, Move):
            lines.append(f"  {step.seconds} s pass")
        else:
            lines += [f"  {request}" for request in step.requests]
            lines.append(f"  -- sent in pieces of {step.pieces} and the rest" if step.pieces else "  --")
    return "\n".join(lines)


__all__ = ["Batch", "Move", "Step", "Stream", "described", "kinds", "streams"]
