"""A server in this process whose time tests move."""

from memcache_kv.clock import Clock
from memcache_kv.config.settings import Settings
from memcache_kv.server.run import ServerRun
from tests.closing import Closing


class MovedServer(Closing):
    """A server whose clock stands still, but for `travel`."""

    def __init__(self) -> None:
        self._clock = Clock()
        self._clock.pause()
        self._run = ServerRun(Settings(port=0, listen=("127.0.0.1",)), clock=self._clock)
        self._run.start()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._run.port

    def travel(self, seconds: int) -> None:
        """Move the clock, as `debugtime` does."""
        self._clock.shift(seconds)
        self._run.store.new_second()

    def now(self) -> float:
        return self._clock.now

    def close(self) -> None:
        self._run.stop()
