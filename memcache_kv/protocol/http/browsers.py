"""Which pages in a browser may use a site: its own, and those of configured origins.

The check of `Host` keeps out pages whose name resolves to this server's address (DNS rebinding): such a name has a dot
and is not configured. Programs that are no browsers send no `Origin`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from memcache_kv.protocol.http.message import Header, HttpReply, HttpRequest
from memcache_kv.protocol.http.problems import problem_reply

ANY_NAME = "*"
PREFLIGHT_SECONDS = 600
ALLOWED_METHODS = b"GET, HEAD, PUT, POST, DELETE"
ALLOWED_HEADERS = b"Authorization, Content-Type, If-Match, If-None-Match"
OTHER_SITES = (b"cross-site", b"same-site")
VARIES: Header = (b"Vary", b"Origin")


class BrowserRules:
    """The rules of one server.

    hosts: names besides IP addresses, `localhost` and names without a dot, by which clients may call the server; `*`
    is any. origins: those whose pages may use it, such as `https://app.example`.
    """

    def __init__(self, hosts: tuple[str, ...], origins: tuple[str, ...]) -> None:
        self._hosts = frozenset(host.lower().encode() for host in hosts)
        self._origins = frozenset(origin.lower().rstrip("/").encode() for origin in origins)
        self.has_origins = bool(origins)
        """Whether pages of some other origins may use the site."""
        self._takes_any_host = ANY_NAME in hosts

    def refusal(self, headers: Mapping[bytes, bytes]) -> HttpReply | None:
        """Return the reply to a request that no page of another site may make; None lets it go on."""
        host = headers.get(b"host", b"")
        if not self._takes_any_host and not self._has_known_host(host):
            return problem_reply(
                421, f"{host.decode('latin-1')[:100]!r} is not a name of this server; --http-host NAME makes it one."
            )
        origin = headers.get(b"origin")
        if origin is None:
            is_foreign = headers.get(b"sec-fetch-site") in OTHER_SITES
        else:
            is_foreign = origin.lower() not in self._origins and not _is_same(origin, host)
        if is_foreign:
            return problem_reply(403, "Pages of other origins can't use this server; --http-origin allows one.")
        return None

    def cors_headers(self, headers: Mapping[bytes, bytes]) -> tuple[Header, ...]:
        """Return the headers that let the page of a configured origin read the reply."""
        origin = headers.get(b"origin")
        if origin is None or origin.lower() not in self._origins:
            return (VARIES,)
        return (VARIES, (b"Access-Control-Allow-Origin", origin), (b"Access-Control-Expose-Headers", b"ETag"))

    def preflight(self, request: HttpRequest) -> HttpReply | None:
        """Return the reply to a preflight request of a configured origin; None if this is no such request."""
        headers = request.headers
        if request.method != b"OPTIONS" or b"access-control-request-method" not in headers:
            return None
        if headers.get(b"origin", b"").lower() not in self._origins:
            return None
        allowed: tuple[Header, ...] = (
            (b"Access-Control-Allow-Methods", ALLOWED_METHODS),
            (b"Access-Control-Allow-Headers", ALLOWED_HEADERS),
            (b"Access-Control-Max-Age", b"%d" % PREFLIGHT_SECONDS),
        )
        return HttpReply(204, headers=allowed)

    def _has_known_host(self, host: bytes) -> bool:
        """Tell whether this is a name or an address of the server, with or without a port."""
        name = host[1:].partition(b"]")[0] if host.startswith(b"[") else host.partition(b":")[0]
        name = name.lower().rstrip(b".")
        if b"." not in name and b":" not in name:
            return True
        return name in self._hosts or name.endswith(b".localhost") or _is_address(name)


def _is_address(name: bytes) -> bool:
    try:
        ipaddress.ip_address(name.decode("latin-1"))
    except ValueError:
        return False
    return True


def _is_same(origin: bytes, host: bytes) -> bool:
    """Tell whether an origin is the one that the host of the request has."""
    return origin.lower() in (b"http://" + host.lower(), b"https://" + host.lower())
