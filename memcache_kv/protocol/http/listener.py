"""The listeners of HTTP, as the server sets them up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memcache_kv.auth.access import Origin
from memcache_kv.config.settings import Settings, split_class_prefix
from memcache_kv.protocol.context import Context
from memcache_kv.protocol.dialect import Dialect
from memcache_kv.protocol.http.browsers import BrowserRules
from memcache_kv.protocol.http.framing import HttpProtocol
from memcache_kv.protocol.http.routes import ItemSite

if TYPE_CHECKING:
    from memcache_kv.auth.users import Credentials
    from memcache_kv.protocol.http.site import Site

OVERLOADED = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def http_dialect(settings: Settings) -> Dialect:
    """Return the protocol of the listeners that serve the items by HTTP."""
    return dialect_of("http", item_site(settings))


def item_site(settings: Settings) -> ItemSite:
    """Return what these listeners serve. The hosts that they listen on are names of the server."""
    names = tuple(split_class_prefix(text)[1].rpartition(":")[0] for text in settings.http_listen)
    return ItemSite(BrowserRules(settings.http_host + names, settings.http_origin))


def dialect_of(name: str, site: Site, protocol_class: type[HttpProtocol] = HttpProtocol) -> Dialect:
    """Return the protocol of listeners that serve a site. name: for the log and the settings."""

    def make(context: Context, fd: int, users: Credentials | None, origin: Origin) -> HttpProtocol:
        protocol = protocol_class(context, fd, site, users)
        protocol.permit(origin)
        return protocol

    return Dialect(name, make, f"new {name} client connection", rejection=OVERLOADED)
