"""Content types as client flags, so that an item keeps its type beside its value, in the journal too.

The flags are 0x5CTT0000: C is the charset's number, TT the type's. The low 16 bits are 0, because client libraries of
memcached's protocols use these to say how a value is serialized: they read the value as plain bytes. The numbers never
change. Flags of any other form, 0 included, mean application/octet-stream.
"""

from __future__ import annotations

from memcache_kv.protocol.http.problems import HttpProblem

MARK = 0x5
MARK_SHIFT, CHARSET_SHIFT, TYPE_SHIFT = 28, 24, 16
DEFAULT_TYPE = b"application/octet-stream"

MEDIA_TYPES: dict[int, bytes] = {
    1: b"application/json",
    2: b"text/plain",
    3: b"text/html",
    4: b"text/css",
    5: b"text/csv",
    6: b"text/xml",
    7: b"text/javascript",
    8: b"text/markdown",
    9: b"application/xml",
    10: b"application/javascript",
    11: b"application/x-www-form-urlencoded",
    12: b"application/x-ndjson",
    13: b"application/ld+json",
    14: b"application/problem+json",
    15: b"application/yaml",
    16: b"application/toml",
    17: b"application/cbor",
    18: b"application/msgpack",
    19: b"application/x-msgpack",
    20: b"application/protobuf",
    21: b"application/x-protobuf",
    22: b"application/pdf",
    23: b"application/gzip",
    24: b"application/zip",
    25: b"application/zstd",
    26: b"application/wasm",
    27: b"image/png",
    28: b"image/jpeg",
    29: b"image/gif",
    30: b"image/webp",
    31: b"image/avif",
    32: b"image/svg+xml",
    33: b"image/x-icon",
    34: b"audio/mpeg",
    35: b"audio/ogg",
    36: b"video/mp4",
    37: b"video/webm",
    38: b"font/woff2",
    39: b"application/vnd.apache.arrow.stream",
    40: b"application/vnd.apache.parquet",
    41: b"application/xhtml+xml",
    42: b"text/calendar",
    43: b"application/jwt",
    44: b"application/x-tar",
}
"""The types by their numbers."""
CHARSETS: dict[int, bytes] = {0: b"", 1: b"utf-8", 2: b"us-ascii", 3: b"iso-8859-1", 4: b"utf-16", 5: b"windows-1252"}
"""The charsets by their numbers; 0 is none."""

RENDERED = frozenset((3, 6, 9, 32, 41))
"""The types that browsers show as documents, which may contain scripts."""

FLAGS_BY_TYPE = {
    media_type + (b"; charset=" + charset if charset else b""): MARK << MARK_SHIFT | charset_number << CHARSET_SHIFT
    | number << TYPE_SHIFT
    for number, media_type in MEDIA_TYPES.items()
    for charset_number, charset in CHARSETS.items()
}  # fmt: skip
TYPES_BY_FLAGS = {flags: name for name, flags in FLAGS_BY_TYPE.items()}
JSON_FLAGS = FLAGS_BY_TYPE[b"application/json"]
"""The client flags of a JSON value."""


def flags_for(content_type: bytes) -> int:
    """Return the client flags that keep this type; empty is the default. Raises HttpProblem (415) for another type."""
    known = FLAGS_BY_TYPE.get(content_type)
    if known is not None:
        return known
    media_type, *parameters = [part.strip().lower() for part in content_type.split(b";")]
    if media_type in (b"", DEFAULT_TYPE) and not parameters:
        return 0
    parts = [part.replace(b'"', b"").replace(b"'", b"") for part in parameters if part]
    flags = FLAGS_BY_TYPE.get(b"; ".join([media_type, *parts])) if len(parts) <= 1 else None
    if flags is None:
        raise HttpProblem(
            415, "The type can't be kept: send one of the types of the documentation, alone or with a charset of it."
        )
    return flags


def type_for(flags: int) -> bytes:
    """Return the content type that client flags stand for."""
    return TYPES_BY_FLAGS.get(flags, DEFAULT_TYPE)


def is_rendered(flags: int) -> bool:
    """Tell whether browsers show a value with these client flags as a document."""
    return flags >> MARK_SHIFT == MARK and flags >> TYPE_SHIFT & 0xFF in RENDERED
