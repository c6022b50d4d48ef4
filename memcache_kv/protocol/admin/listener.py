"""The listeners of the admin site, as the server sets them up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memcache_kv.protocol.admin.site import AdminSite
from memcache_kv.protocol.http.browsers import BrowserRules
from memcache_kv.protocol.http.framing import HttpProtocol
from memcache_kv.protocol.http.listener import dialect_of

if TYPE_CHECKING:
    from memcache_kv.auth.admin_token import AdminToken
    from memcache_kv.config.settings import Settings
    from memcache_kv.observe.log import Log
    from memcache_kv.protocol.admin.observed import ObservedServer
    from memcache_kv.protocol.dialect import Dialect


class AdminProtocol(HttpProtocol):
    """HTTP/1.1 on one connection to the admin listener."""

    __slots__ = ()

    def _date_line(self) -> bytes:
        """Return the date by the clock of the admin listener: that of the items stands still while they are loaded."""
        return self._site.dates.at(self.context.clock.now)


def admin_dialect(settings: Settings, server: ObservedServer, token: AdminToken | None, log: Log) -> Dialect:
    """Return the protocol of the admin listeners. The hosts that they listen on are names of the server."""
    names = tuple(text.rpartition(":")[0] for text in settings.admin_listen)
    rules = BrowserRules(settings.http_host + names, settings.http_origin)
    return dialect_of("admin", AdminSite(server, rules, token, log), AdminProtocol)
