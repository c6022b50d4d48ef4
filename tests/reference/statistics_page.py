"""docs/reference/statistics.md: every line that `stats` and its kin send, as a running server sends them."""

from __future__ import annotations

import io
import re
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from memcache_kv.config.loading import load_settings
from memcache_kv.observe.log import Log
from memcache_kv.server.run import ServerRun
from tests.certificates import Certificates, make_certificates
from tests.program import PATIENCE_SECONDS
from tests.reference.statistics_words import (
    CLASS_ITEMS,
    CLASS_SLABS,
    CONDITIONS,
    CONNECTION,
    GENERAL,
    HEADS,
    OWN,
    PREFIXES,
    SETTINGS,
    SLAB_TOTALS,
)  # fmt: skip
from tests.reference.tables import check_described, table

PLAIN_FLAGS: dict[str, Any] = {"port": "0", "listen": ["notls:127.0.0.1"], "stats-delimiter": ":"}


def statistics_page() -> str:
    """Make the page."""
    with tempfile.TemporaryDirectory() as folder:
        plain = _answers(PLAIN_FLAGS | {"listen": ["127.0.0.1"]})
        full = _answers(_all_flags(Path(folder)))
    return "".join(
        HEADS[what] + _section(full[what], plain[what], words)
        for what, words in (("", GENERAL), ("memcache_kv", OWN), ("settings", SETTINGS), ("items", CLASS_ITEMS),
                            ("slabs", CLASS_SLABS | SLAB_TOTALS), ("conns", CONNECTION))
    ) + HEADS["sizes"] + HEADS["detail"] + table(("name", "meaning"), PREFIXES.items())  # fmt: skip


def _all_flags(folder: Path) -> dict[str, Any]:
    """Whatever makes the server send more lines."""
    certificates: Certificates = make_certificates(folder)
    (folder / "users").write_text("ann:x\n")
    return PLAIN_FLAGS | {
        "journal": str(folder / "journal"),
        "verbose": "1",
        "auth-file": str(folder / "users"),
        "max-connections-per-address": "100",
        "enable-ssl": "true",
        "extended": [f"{certificates.suboptions},ssl_session_cache,idle_timeout=60,temporary_ttl=10"],
    }


def _section(full: list[str], plain: list[str], words: Mapping[str, str]) -> str:
    check_described(full, words, "statistics")
    return table(("name", "meaning"), ((f"`{name}`", words[name] + _condition(name, plain)) for name in full))


def _condition(name: str, plain: Iterable[str]) -> str:
    """Say which setting a line needs, where a server without any setting does not send it."""
    if name in plain:
        return ""
    return next(f" (with {setting})" for pattern, setting in CONDITIONS.items() if re.fullmatch(pattern, name))


def _answers(flags: Mapping[str, Any]) -> dict[str, list[str]]:
    """Ask a server with these flags for everything; the names of the lines, without the numbers of class or socket."""
    with _serving(flags) as port:
        return {what: _names(port, what) for what in ("", "memcache_kv", "settings", "items", "slabs", "conns")}


@contextmanager
def _serving(flags: Mapping[str, Any]) -> Iterator[int]:
    server = ServerRun(load_settings(flags, None, {}), log=Log(0, io.StringIO()))
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


def _names(port: int, what: str) -> list[str]:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(f"set login 0 0 5\r\nann x\r\nset a:b 0 0 1\r\nx\r\nstats {what}\r\nquit\r\n".encode())
        text = connection.makefile().read()
    names = re.findall(r"^STAT (?:items:)?(?:\d+:)?(\S+) ", text, re.MULTILINE)
    return list(dict.fromkeys(names))
