"""Which requests, or items, a fault meets: by command, by key, and by chance."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from random import Random
from typing import TypeAlias

from memcache_kv.traffic.wire import WireRequest

KeyPattern: TypeAlias = str | bytes | re.Pattern[str] | re.Pattern[bytes]
"""A glob for the whole key (`user:*`), or a compiled regular expression that is searched in it."""


class Selection:
    """Picks requests that have one of some commands, name a key that fits a pattern, and have bad luck.

    commands: names as `Call.request.command` has them; None for all. keys: None for all, and for requests without keys.
    probability: from 0 to 1, for each request of the others. seed: of the random numbers; the same one gives the same
    picks for the same requests. Raises ValueError for a probability or a command that can't be.
    """

    def __init__(
        self,
        commands: str | Iterable[str] | None = None,
        keys: KeyPattern | None = None,
        probability: float = 1.0,
        seed: int = 0,
    ) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"a probability is from 0 to 1, not {probability}")
        names = (commands,) if isinstance(commands, str) else commands
        self.commands = None if names is None else frozenset(names)
        self.random = Random(seed)  # nosec B311: chance, and no secret
        """The random numbers of this fault, for what else it needs them."""
        self._pattern = None if keys is None else _compiled(keys)
        self._probability = probability

    def takes(self, request: WireRequest) -> bool:
        """Tell whether a request is picked. Each one must be asked for once only."""
        if self.commands is not None and request.command not in self.commands:
            return False
        if self._pattern is not None and not any(self.fits(key) for key in request.keys):
            return False
        return self.has_bad_luck()

    def fits(self, key: bytes) -> bool:
        """Tell whether a key fits the pattern."""
        return self._pattern is None or self._pattern.search(key) is not None

    def has_bad_luck(self) -> bool:
        """Tell by chance whether something is picked that fits."""
        return self._probability >= 1 or self.random.random() < self._probability


def _compiled(keys: KeyPattern) -> re.Pattern[bytes]:
    """Return a pattern for keys as bytes: texts are UTF-8."""
    if isinstance(keys, re.Pattern):
        text = keys.pattern
        if isinstance(text, bytes):
            return re.compile(text, keys.flags)
        return re.compile(text.encode(), keys.flags & ~re.UNICODE)
    glob = keys.encode() if isinstance(keys, str) else keys
    return re.compile(rb"\A" + fnmatch.translate(glob.decode("latin-1")).encode("latin-1"))
