"""The sub-options of -o: which there are, how they are read, and memcached 1.6.45's messages about invalid ones.

Some of them set fields of Settings, and those for TLS a field that holds them all. The others have no effect here. They
are checked like in memcached and kept as `Unused`, so that `stats settings` can show them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from memcache_kv.config.memcached_options import (
    CHUNK_ALIGN_BYTES,
    KIB,
    MIB,
    SLAB_PAGE_BYTES,
    TlsOptions,
    Unused,
)
from memcache_kv.errors import EX_USAGE, ConfigError

MOST_SLAB_SIZES = 62
HASH_ALGORITHMS = ("jenkins", "murmur3", "xxh3")

Number = TypeVar("Number", int, float)
ArgumentReader = Callable[[str | None], Mapping[str, Any]]
"""Turns a sub-option's argument, or None if it has none, into the fields that it sets."""
ValueCheck = tuple[Callable[[Any], bool], str]
"""Whether a value is invalid, and the message about it."""
GROUPS: dict[str, type[Unused] | type[TlsOptions]] = {"extended": Unused, "tls": TlsOptions}
"""Fields of Settings that hold many sub-options each."""


def read_suboptions(texts: Iterable[str], item_size: int, slab_min_size: int) -> dict[str, Any]:
    """Read the sub-options that -o gave and return the fields of Settings that they set.

    texts: each a name or name=argument, of which later ones win; item_size, slab_min_size: the values of -I and -n, in
    bytes. Raises ConfigError with memcached's message.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, argument = text.partition("=")
        if name not in SUBOPTIONS:
            raise ConfigError(f'Illegal suboption "{text}"')
        found.update(SUBOPTIONS[name](argument if equals else None))
    grouped = {group: {name: found.pop(name) for name in kind._fields if name in found}
               for group, kind in GROUPS.items()}  # fmt: skip
    unused = Unused(**grouped["extended"])
    if "slab_chunk_max" in grouped["extended"]:
        _check_chunk_size(unused.slab_chunk_max, item_size)
    if unused.slab_sizes:
        _check_slab_sizes(unused.slab_sizes, slab_min_size, unused.slab_chunk_max)
    _check_lru(unused)
    return found | {"extended": unused, "tls": TlsOptions(**grouped["tls"])}


# Arguments


def _atoi(text: str) -> int:
    """Read a number like C's atoi: ignore what follows the number, and return 0 if there is none."""
    match = re.match(r"[ \t\n\v\f\r]*([+-]?[0-9]{1,18})", text)
    return int(match[1]) if match else 0


def _atof(text: str) -> float:
    """Read a decimal number like C's atof, without hexadecimal numbers and words such as inf."""
    match = re.match(r"[ \t\n\v\f\r]*([+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?)", text)
    return float(match[1]) if match else 0.0


def _whole(lowest: int, highest: int, complaint: str, unit: int = 1) -> Callable[[str], int]:
    """Make a reader of a number with nothing behind it, from lowest to highest, which is then multiplied by unit."""

    def read(text: str) -> int:
        if not re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s?", text, re.ASCII) or not lowest <= int(text) <= highest:
            raise ConfigError(complaint)
        return int(text) * unit

    return read


def _sets(**values: Any) -> ArgumentReader:
    """Make a reader for a sub-option without an argument. Like in memcached, an argument is ignored."""
    return lambda argument: values


def _takes(field: str, missing: str, read: Callable[[str], Number], *checks: ValueCheck) -> ArgumentReader:
    """Make a reader for a sub-option with an argument.

    missing: what the message about a missing argument says after "Missing".
    """

    def reader(argument: str | None) -> Mapping[str, Any]:
        if argument is None:
            raise ConfigError(f"Missing {missing}")
        value = read(argument)
        for is_invalid, complaint in checks:
            if is_invalid(value):
                raise ConfigError(complaint.format(value))
        return {field: value}

    return reader


def _slab_automove(argument: str | None) -> Mapping[str, Any]:
    level = 1 if argument is None else _atoi(argument)
    if not 0 <= level <= 2:
        raise ConfigError("slab_automove must be between 0 and 2")
    return {"slab_automove": level}


def _hash_algorithm(argument: str | None) -> Mapping[str, Any]:
    """Check the name. It has no effect: the interpreter's hash is always used."""
    if argument is None:
        raise ConfigError("Missing hash_algorithm argument")
    if argument not in HASH_ALGORITHMS:
        raise ConfigError(f"Unknown hash_algorithm option ({', '.join(HASH_ALGORITHMS)})")
    return {}


def _temporary_ttl(argument: str | None) -> Mapping[str, Any]:
    return {"temp_lru": True, **_takes("temporary_ttl", "temporary_ttl argument", _atoi)(argument)}


def _slab_sizes(argument: str | None) -> Mapping[str, Any]:
    if not argument:
        raise ConfigError("Missing slab_sizes argument")
    return {"slab_sizes": argument}


def _percentage(name: str) -> ArgumentReader:
    return _takes(name, f"{name} argument", _atoi, (lambda n: not 1 <= n < 80, f"{name} must be > 1 and < 80"))


def _factor(name: str) -> ArgumentReader:
    return _takes(name, f"{name} argument", _atof, (lambda n: n <= 0, f"{name} must be > 0"))


def _buffer(name: str, unit: int) -> ArgumentReader:
    read = _whole(0, (1 << 32) - 1, f"could not parse argument to {name}", unit)
    return _takes(name, f"{name} argument", read)


def _text(name: str) -> ArgumentReader:
    def reader(argument: str | None) -> Mapping[str, Any]:
        if argument is None:
            raise ConfigError(f"Missing {name} argument")
        return {name: argument}

    return reader


def _choice(name: str) -> ArgumentReader:
    """Make a reader for a number from 0 to 3."""
    read = _whole(-1 << 31, (1 << 31) - 1, f"could not parse argument to {name}")
    check = (lambda n: not 0 <= n <= 3, f"Invalid {name}. Use help to see valid options.")
    return _takes(name, f"{name} argument", read, check)


# Values that depend on each other


def _check_chunk_size(chunk: int, item_size: int) -> None:
    if chunk > item_size:
        said = f"slab_chunk_max (bytes: {chunk}) cannot be larger than -I (item_size_max {item_size})"
    elif item_size % chunk:
        said = f"-I (item_size_max: {item_size}) must be evenly divisible by slab_chunk_max (bytes: {chunk})"
    elif SLAB_PAGE_BYTES % chunk:
        said = f"slab_chunk_max (bytes: {chunk}) must divide evenly into {SLAB_PAGE_BYTES} (slab_page_size)"
    else:
        return
    raise ConfigError(said, EX_USAGE)


def _check_slab_sizes(text: str, lowest: int, highest: int) -> None:
    """Check the sizes of slab classes, given as 100-200-300."""
    last = 0
    words = [word for word in text.split("-") if word]
    for word in words:
        size = int(word) if re.fullmatch("[0-9]{1,9}", word) else 0
        if not lowest <= size <= highest:
            raise ConfigError(f"slab size {size} is out of valid range", EX_USAGE)
        if size <= last:
            raise ConfigError(f"slab size {size} cannot be lower than or equal to a previous class size", EX_USAGE)
        if size <= last + CHUNK_ALIGN_BYTES:
            raise ConfigError(
                f"slab size {size} must be at least {CHUNK_ALIGN_BYTES} bytes larger than previous class", EX_USAGE
            )
        last = size
    if len(words) > MOST_SLAB_SIZES:
        raise ConfigError("too many slab classes specified", EX_USAGE)


def _check_lru(unused: Unused) -> None:
    if unused.hot_lru_pct + unused.warm_lru_pct > 80:
        raise ConfigError("hot_lru_pct + warm_lru_pct cannot be more than 80% combined", EX_USAGE)
    if unused.temp_lru and not unused.lru_maintainer_thread:
        raise ConfigError("temporary_ttl requires lru_maintainer to be enabled", EX_USAGE)


SUBOPTIONS: dict[str, ArgumentReader] = {
    # with an effect
    "maxconns_fast": _sets(maxconns_fast=True),
    "no_maxconns_fast": _sets(maxconns_fast=False),
    "idle_timeout": _takes("idle_timeout", "numeric argument for idle_timeout", _atoi),
    "lru_crawler": _sets(lru_crawler=True),
    "no_lru_crawler": _sets(lru_crawler=False),
    "lru_crawler_sleep": _takes("crawler_sleep_us", "lru_crawler_sleep value", _atoi, (
        lambda n: not 0 <= n <= 1_000_000, "LRU crawler sleep must be between 0 and 1 second")),
    "lru_crawler_tocrawl": _takes("crawler_tocrawl", "lru_crawler_tocrawl value",
                                  _whole(0, (1 << 32) - 1, "lru_crawler_tocrawl takes a numeric 32bit value")),
    "track_sizes": _sets(track_sizes=True),
    "ssl_chain_cert": _text("ssl_chain_cert"),
    "ssl_key": _text("ssl_key"),
    "ssl_verify_mode": _choice("ssl_verify_mode"),
    "ssl_keyformat": _takes("ssl_keyformat", "ssl_keyformat argument",
                            _whole(-1 << 31, (1 << 31) - 1, "could not parse argument to ssl_keyformat")),
    "ssl_ciphers": _text("ssl_ciphers"),
    "ssl_ca_cert": _text("ssl_ca_cert"),
    "ssl_wbuf_size": _buffer("ssl_wbuf_size", KIB),
    "ssl_session_cache": _sets(ssl_session_cache=True),
    "ssl_kernel_tls": _sets(ssl_kernel_tls=True),
    "ssl_min_version": _choice("ssl_min_version"),
    # with an effect of both kinds
    "modern": _sets(),
    "no_modern": _sets(maxconns_fast=False, lru_crawler=False, slab_chunk_max=SLAB_PAGE_BYTES, slab_reassign=False,
                       slab_automove=0, lru_segmented=False, lru_maintainer_thread=False),
    # without an effect
    "hashpower": _takes("hashpower_init", "numeric argument for hashpower", _atoi,
                        (lambda n: n < 12, "Initial hashtable multiplier of {} is too low"),
                        (lambda n: n > 32, "Initial hashtable multiplier of {} is too high")),
    "no_hashexpand": _sets(),
    "hash_algorithm": _hash_algorithm,
    "slab_reassign": _sets(slab_reassign=True),
    "no_slab_reassign": _sets(slab_reassign=False),
    "slab_automove": _slab_automove,
    "no_slab_automove": _sets(slab_automove=0),
    "slab_automove_ratio": _takes("slab_automove_ratio", "slab_automove_ratio argument", _atof,
                                  (lambda n: not 0 < n <= 1, "slab_automove_ratio must be > 0 and < 1")),
    "slab_automove_window": _takes("slab_automove_window", "slab_automove_window argument", _atoi,
                                   (lambda n: not 3 <= n <= 1800, "slab_automove_window must be > 2 and < 1800")),
    "slab_sizes": _slab_sizes,
    "slab_chunk_max": _takes("slab_chunk_max", "slab_chunk_max argument",
                             _whole(-1 << 31, (1 << 31) - 1, "could not parse argument to slab_chunk_max", KIB),
                             (lambda n: n <= 0, "slab_chunk_max must be >= 0"),
                             (lambda n: n > KIB * KIB, "slab_chunk_max must be specified in kilobytes.")),
    "no_chunked_items": _sets(slab_chunk_max=SLAB_PAGE_BYTES),
    "tail_repair_time": _takes("tail_repair_time", "numeric argument for tail_repair_time", _atoi,
                               (lambda n: n < 10, "Cannot set tail_repair_time to less than 10 seconds")),
    "lru_maintainer": _sets(lru_maintainer_thread=True, lru_segmented=True),
    "no_lru_maintainer": _sets(lru_maintainer_thread=False, lru_segmented=False),
    "hot_lru_pct": _percentage("hot_lru_pct"),
    "warm_lru_pct": _percentage("warm_lru_pct"),
    "hot_max_factor": _factor("hot_max_factor"),
    "warm_max_factor": _factor("warm_max_factor"),
    "temporary_ttl": _temporary_ttl,
    "watcher_logbuf_size": _buffer("watcher_logbuf_size", KIB),
    "worker_logbuf_size": _buffer("worker_logbuf_size", KIB),
    "read_buf_mem_limit": _buffer("read_buf_mem_limit", MIB),
    "resp_obj_mem_limit": _sets(),
    "inline_ascii_resp": _sets(),
    "no_inline_ascii_resp": _sets(),
    "drop_privileges": _sets(),
    "no_drop_privileges": _sets(),
    "relaxed_privileges": _sets(),
}  # fmt: skip
