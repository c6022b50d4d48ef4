"""Those who want to see single requests: the verbose log, `watch`, and the counts per key prefix."""

from __future__ import annotations

from memcache_kv.log import Log


class Observation:
    """Tell of single requests to whoever wants to hear of them.

    The hot path looks at `active` alone, and takes its short ways only while that is False; what it is made of may
    change while the server runs, and whoever changes it calls `refresh`. Any thread may call any method.
    """

    __slots__ = ("active", "log")

    def __init__(self, log: Log) -> None:
        self.log = log
        self.active = False
        self.refresh()

    def refresh(self) -> None:
        """Look again whether anybody wants to see single requests."""
        self.active = self.log.verbosity > 1

    def set_verbosity(self, level: int) -> None:
        """Change what the log says, as `-v` and the command `verbosity` do."""
        self.log.verbosity = level
        self.refresh()
