"""The log of a server in another program: messages of the module `logging`."""

from __future__ import annotations

import logging

from memcache_kv.observe.log import Log
from memcache_kv.observe.log_form import Level, with_priority

NAME = "memcache_kv"
"""The name of the logger."""

LEVELS = {Level.ERROR: logging.ERROR, Level.WARNING: logging.WARNING, Level.INFO: logging.INFO}
"""What else there is, requests and replies with -vv, is logged as DEBUG."""


class HostStream:
    """A `LogStream` that passes messages to a logger. Their lines have the form `with_priority`."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def write(self, text: str, /) -> None:
        """Log the lines, which are those of one message."""
        parts = [line[1:].partition(">") for line in text.splitlines()]
        level = LEVELS.get(Level(int(parts[0][0])), logging.DEBUG)
        self._logger.log(level, "%s", "\n".join(words for _, _, words in parts))

    def flush(self) -> None:
        """Do nothing, as the handlers decide when they write."""


def host_log(verbosity: int) -> Log:
    """Return a log that writes to the logger `memcache_kv`, and to no stream unless the program says so."""
    logger = logging.getLogger(NAME)
    if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        logger.addHandler(logging.NullHandler())  # without a handler, `logging` would write to standard error
    return Log(verbosity, HostStream(logger), form=with_priority)
