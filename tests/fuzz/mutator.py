"""A fast source of damaged requests: the same seed, the same bytes."""

from random import Random

from tests.fuzz.corpus import TOKENS

LONGEST_STREAM = 20_000


def stream(source: Random, requests: list[bytes]) -> bytearray:
    """A few requests one after the other, damaged in a few places."""
    data = bytearray(b"".join(source.choices(requests, k=source.randint(1, 6))))
    for _ in range(source.choice((0, 1, 1, 2, 3, 5, 10))):
        damage(source, data)
    return data[:LONGEST_STREAM]


def damage(source: Random, data: bytearray) -> None:
    """Change one place."""
    place = source.randint(0, len(data))
    kind = source.randrange(7)
    if kind == 0:
        data[place : place + 1] = bytes((source.randrange(256),))
    elif kind == 1:
        del data[place : place + source.choice((1, 1, 2, 5, 20))]
    elif kind == 2:
        data[place:place] = source.choice(TOKENS)
    elif kind == 3:
        _replace_word(source, data, place)
    elif kind == 4:
        data[place:place] = data[place : place + 60] * source.choice((1, 2, 30))
    elif kind == 5:
        data[place:place] = source.randbytes(source.choice((1, 3, 40)))
    else:
        del data[place:]
        data += b"\r\n"


def _replace_word(source: Random, data: bytearray, place: int) -> None:
    """Put a word of another kind where one begins."""
    begin = data.find(b" ", place) + 1
    if begin:
        end = min((found for found in (data.find(b" ", begin), data.find(b"\r", begin)) if found >= 0), default=begin)
        data[begin:end] = source.choice(TOKENS)


def pieces(source: Random, data: bytearray) -> list[bytes]:
    """Cut as a network may cut it."""
    cuts = sorted(source.randint(0, len(data)) for _ in range(source.choice((0, 0, 0, 1, 2, 5, 20))))
    if source.randrange(50) == 0:
        cuts = list(range(min(len(data), 500)))
    return [bytes(data[begin:end]) for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
