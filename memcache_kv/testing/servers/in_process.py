"""The server in the process that runs the tests."""

from __future__ import annotations

import shlex

from memcache_kv import ConfigError, ListenError, Server, Settings
from memcache_kv.api.fields import OF_THE_PROGRAM
from memcache_kv.cli import make_parser
from memcache_kv.config.loading import load_settings
from memcache_kv.config.options import SETTING_FIELDS
from memcache_kv.stats import report
from memcache_kv.testing.servers.backing import ServerFailed
from memcache_kv.testing.time_travel import TimeTravel


def settings_of(args: str) -> Settings:
    """Return the settings of a server with these flags, which listens where only the tap looks for it.

    Raises ServerFailed if they can't be.
    """
    try:
        flags = vars(make_parser().parse_args(shlex.split(args)))
        for name in flags.keys() & SETTING_FIELDS.keys():
            if SETTING_FIELDS[name] in OF_THE_PROGRAM - {"extended"}:
                raise ConfigError(f"--{name} changes the process, which is pytest's")
        del flags["memory_plan"], flags["config"]
        settings = load_settings(flags, None, environ={})
        return settings._replace(port=0, listen=("127.0.0.1",), udp_port=0, unix_socket=None)
    except (ConfigError, ValueError) as error:
        raise ServerFailed(f"a server can't have the flags {args!r}: {error}") from None


class ServerInProcess:
    """A server of this process. args: its flags; time_travel: the time that it lives in."""

    def __init__(self, args: str, time_travel: TimeTravel) -> None:
        self.description = "the server in this process"
        self.time_travel: TimeTravel | None = time_travel
        self.embedded: Server = time_travel.server(settings_of(args))

    @property
    def address(self) -> tuple[str, int]:
        """Its host and port, which stay the same."""
        return self.embedded.address

    def start(self) -> None:
        """Start it. Raises ServerFailed."""
        try:
            self.embedded.start()
        except (ConfigError, ListenError) as error:
            raise ServerFailed(f"the server can't be started: {error}") from None

    def stop(self) -> None:
        """Stop it."""
        self.embedded.stop()

    def reset(self, is_changed: bool) -> None:
        """Undo moves of the time, remove all items, and undo what administrative commands have changed."""
        assert self.time_travel is not None
        self.time_travel.reset()
        settings = self.embedded.settings
        has_nodes = bool(settings.cluster_node) or settings.cluster_file is not None
        if not self.embedded.is_running or (is_changed and has_nodes):
            self.stop()
            self.start()
            return
        self.embedded.store.flush()
        run = self.embedded.inner
        run.store.set_limit(settings.memory_limit)
        run.observers.set_verbosity(settings.verbose)
        run.observers.count_prefixes(settings.detail_enabled)
        crawler = run.crawler
        crawler.sleep_us, crawler.tocrawl = settings.crawler_sleep_us, settings.crawler_tocrawl
        if settings.lru_crawler:
            crawler.enable()
        else:
            crawler.disable()
        context = run.condition.reported
        assert context is not None, "it is there once the server has started"
        report.reset(context)

    def stats(self, what: str) -> dict[str, str]:
        """Return what `stats WHAT` says."""
        return self.embedded.stats(what)
