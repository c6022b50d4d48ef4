"""Settings from keyword arguments, checked as those of the command line are."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from memcache_kv.config.loading import add_implied, check_together
from memcache_kv.config.settings import Settings
from memcache_kv.errors import ConfigError

OF_THE_PROGRAM = frozenset(
    {
        "daemon",
        "user",
        "pidfile",
        "lock_memory",
        "enable_largepages",
        "enable_coredumps",
        "log_file",
        "log_format",
        "log_level",
        "extended",
    }
)
"""Fields that change the process or its streams, which belong to the program that imports the package."""

OF_A_STORE = frozenset(
    {
        "memory_limit",
        "max_item_size",
        "max_items",
        "disable_evictions",
        "disable_cas",
        "shards",
        "slab_growth_factor",
        "slab_min_size",
        "lru_crawler",
        "crawler_sleep_us",
        "crawler_tocrawl",
        "journal",
        "fsync",
        "compact_ratio",
        "keep",
        "compact",
        "on_rotate",
        "rotate_seconds",
    }
)
"""Fields that a store without a server has."""

ANY_PORT: Mapping[str, Any] = {"port": 0, "listen": ("127.0.0.1",)}
"""What a server listens on if it is not told: a free port of the loopback address."""


def server_settings(settings: Settings | None, fields: Mapping[str, Any]) -> Settings:
    """Return the settings of a server: the given ones, or those from fields of Settings by their names.

    Paths may be texts, and lists may be single texts; enumerations may be their values. Raises ConfigError, also if
    both are given.
    """
    if settings is not None:
        return _alone(settings, fields)
    for name in fields.keys() & OF_THE_PROGRAM:
        raise ConfigError(f"{name} is for the program memcache-kv alone: it is the process that it would change")
    places = {"port", "listen", "unix_socket"} & fields.keys()
    if not places:
        fields = {**ANY_PORT, **fields}
    elif places == {"port"}:
        fields = {"listen": ANY_PORT["listen"], **fields}
    elif places == {"listen"}:
        fields = {"port": ANY_PORT["port"], **fields}
    return checked(fields)


def store_settings(settings: Settings | None, fields: Mapping[str, Any]) -> Settings:
    """Return the settings of a store without a server. Raises ConfigError, also for fields that only a server has."""
    if settings is not None:
        return _alone(settings, fields)
    for name in fields.keys() - OF_A_STORE:
        if name in Settings._fields:
            raise ConfigError(f"{name} is a setting of a server: a store has {', '.join(sorted(OF_A_STORE))}")
    return checked(fields)


def _alone(settings: Settings, fields: Mapping[str, Any]) -> Settings:
    """Return given settings. Raises ConfigError if there are fields beside them."""
    if fields:
        raise ConfigError(f"{min(fields)} was given beside settings: put it into them with `settings._replace`")
    check_together(settings)
    return settings


def checked(fields: Mapping[str, Any]) -> Settings:
    """Return settings with these fields. Raises ConfigError if one is unknown, of the wrong type, or impossible."""
    kinds = typing.get_type_hints(Settings)
    values = {name: _converted(name, kinds, value) for name, value in fields.items()}
    add_implied(values, {})
    settings = Settings(**values)
    check_together(settings)
    return settings


def _converted(name: str, kinds: Mapping[str, Any], value: Any) -> Any:
    if name not in kinds:
        near = get_close_matches(name, kinds, 1)
        raise ConfigError(f"{name} is not a setting" + (f"; do you mean {near[0]}?" if near else ""))
    kind = kinds[name]
    is_optional = isinstance(kind, types.UnionType)
    if value is None and is_optional:
        return None
    if is_optional:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is tuple:
        return (value,) if isinstance(value, str) else tuple(value)
    try:
        if issubclass(kind, Path | enum.Enum):
            return kind(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{name} can't be {value!r}") from None
    if kind is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise ConfigError(f"{name} must be of type {kind.__name__}, not {value!r}")
    if kind in (int, float) and value < 0:
        raise ConfigError(f"{name} must not be negative, but is {value}")
    return value
