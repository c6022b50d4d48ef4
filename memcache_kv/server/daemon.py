"""Running in the background, with an exit status for the process that was started."""

from __future__ import annotations

import contextlib
import os
import signal
import stat

from memcache_kv.observe.log import Log, SystemLog
from memcache_kv.observe.log_form import with_priority


class Background:
    """Move to a background process with a session of its own, while the process that was started waits.

    keeps_log: whether the log stays where it is, as with memcached's -v. It also stays if standard error is a file.
    Otherwise `ready` redirects it to the system's log.

    To be made before there are threads. The constructor only returns in the background process. The first process exits
    with status 0 once `ready` is called. If the background process ends before, it exits with the same status. Until
    `ready`, both share standard error, so that errors at the start are seen.
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
        """Make the first process exit with status 0, and detach from the terminal."""
        if self._system_log is not None:
            log.redirect(self._system_log, with_priority)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1) if self._system_log is None else (0, 1, 2):
            os.dup2(null, stream)
        os.close(null)
        with contextlib.suppress(OSError):  # the first process was killed
            os.write(self._ready, b"r")
        os.close(self._ready)


def _outcome(child: int, waiting: int) -> int:
    """Wait until the child is ready or has ended, and return the exit status of the first process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda signum, frame: os.kill(child, signum))
    if os.read(waiting, 1):
        return 0
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status >= 0:
        return status
    Log().say(f"memcache-kv: {signal.Signals(-status).name} ended the server before it was ready")
    return 128 - status
