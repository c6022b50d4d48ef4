"""The way into the background, and how whoever started the server learns what came of it."""

from __future__ import annotations

import contextlib
import os
import signal
import stat

from memcache_kv.observe.log import Log, SystemLog


class Background:
    """Go on in the background, in a session of its own, while the process that was started waits.

    Made before there are threads, it returns in the background alone. The process that was started ends with status 0
    once `ready` is called, or where the one in the background ends without it, with the same status. Until then both
    have the same standard error, so that what goes wrong is seen.

    keeps_log: whether standard error stays the log, as with memcached's -v; so it does where it is a file. Otherwise
    the log goes on in the system's.
    """

    def __init__(self, keeps_log: bool) -> None:
        waiting, self._ready = os.pipe()
        child = os.fork()
        if child:
            os.close(self._ready)
            os._exit(_outcome(child, waiting))
        os.close(waiting)
        os.setsid()
        stays = keeps_log or stat.S_ISREG(os.fstat(2).st_mode)
        self._system_log = None if stays else SystemLog()

    def ready(self, log: Log) -> None:
        """Let the process that was started end, and leave the terminal."""
        if self._system_log is not None:
            log.redirect(self._system_log)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1) if self._system_log is None else (0, 1, 2):
            os.dup2(null, stream)
        os.close(null)
        with contextlib.suppress(OSError):  # whoever waited was killed
            os.write(self._ready, b"r")
        os.close(self._ready)


def _outcome(child: int, waiting: int) -> int:
    """Wait until the child says that it is ready, or has ended; return the exit status for that."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda signum, frame: os.kill(child, signum))
    if os.read(waiting, 1):
        return 0
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status >= 0:
        return status
    Log().say(f"memcache-kv: the server was ended by {signal.Signals(-status).name} before it listened")
    return 128 - status
