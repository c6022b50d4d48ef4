"""The protocols that have listeners of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from memcache_kv.config.settings import Settings
from memcache_kv.errors import ConfigError

if TYPE_CHECKING:
    from memcache_kv.protocol.dialect import Dialect


def dialects_of(settings: Settings) -> Iterator[tuple[Dialect, tuple[str, ...]]]:
    """Yield the protocols with listeners of their own, and the addresses of these. Raises ConfigError."""
    if settings.line_listen:
        from memcache_kv.protocol.line.framing import LINE

        yield LINE, settings.line_listen
    if settings.simple_listen:
        from memcache_kv.protocol.text.simple import SIMPLE

        yield SIMPLE, settings.simple_listen
    if settings.http_listen:
        yield _http_dialect(settings), settings.http_listen


def _http_dialect(settings: Settings) -> Dialect:
    """Return the protocol of the HTTP listeners. Raises ConfigError without the package h11."""
    with needs_h11("--http-listen"):
        from memcache_kv.protocol.http.listener import http_dialect
    return http_dialect(settings)


@contextlib.contextmanager
def needs_h11(flag: str) -> Iterator[None]:
    """Raise ConfigError if the package h11 is missing for an import."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "h11":
            raise
        raise ConfigError(
            f"{flag} needs the package h11: pip install h11, or in a clone pip install '.[http]'"
        ) from None
