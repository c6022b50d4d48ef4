"""docs/reference/http.md lists what the code knows: every content type, charset, path and limit."""

import re

from memcache_kv.protocol.http.content_types import CHARSETS, MEDIA_TYPES
from memcache_kv.protocol.http.framing import BODY_ITEMS, HEAD_LIMIT_BYTES, SPARE_BODY_BYTES
from memcache_kv.protocol.http.items import ITEM_METHODS
from memcache_kv.protocol.http.key_listing import EXAMINED_LIMIT, PAGE_DEFAULT, PAGE_LIMIT
from memcache_kv.protocol.http.keys import LONGEST_TTL
from memcache_kv.protocol.http.pipeline import OPERATIONS_LIMIT
from memcache_kv.protocol.http.routes import PATHS
from memcache_kv.store.entry import KEY_LIMIT_BYTES
from tests.reference.pages import page_path

PAGE = page_path("http.md").read_text()


def test_every_content_type_is_listed_with_its_number() -> None:
    listed = {int(number): name.encode() for number, name in re.findall(r"\| (\d+) \| `(\w+/[\w.+-]+)`", PAGE)}
    assert listed == MEDIA_TYPES


def test_every_charset_is_listed_with_its_number() -> None:
    [line] = re.findall(r"^Charsets: (.*); 0 is none", PAGE, re.MULTILINE)
    listed = {int(number): name.encode() for number, name in re.findall(r"(\d) `([\w-]+)`", line)}
    assert listed | {0: b""} == CHARSETS


def test_every_path_and_method_is_listed() -> None:
    listed = set(re.findall(r"^\| `([A-Z]+) (/[\w./]+)", PAGE, re.MULTILINE))
    expected = {(method.decode(), path.decode()) for path, methods in PATHS.items() for method in methods}
    expected = {row for row in expected if row[0] != "HEAD"} | {(name.decode(), "/v1/kv/key") for name in ITEM_METHODS}
    assert listed == expected | {("PUT", "/key"), ("GET", "/key"), ("DELETE", "/key")}


def test_the_limits_are_those_of_the_code() -> None:
    assert (BODY_ITEMS, SPARE_BODY_BYTES, HEAD_LIMIT_BYTES) == (2, 64 << 10, 16 << 10)
    for text in (
        "twice `-I` and 64 KiB", "more than 16 KiB", f"1 to {KEY_LIMIT_BYTES} bytes", f"(never) to {LONGEST_TTL}",
        f"1 to {PAGE_LIMIT} ({PAGE_DEFAULT} by default)", f"{EXAMINED_LIMIT:,} keys",
        f"at most {OPERATIONS_LIMIT} operations",
    ):  # fmt: skip
        assert text in PAGE, text
