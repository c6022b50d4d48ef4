"""docs/reference/admin.md lists what the code knows: paths, reasons, limits, statuses and flags."""

import re

from memcache_kv.protocol.http.framing import HEAD_LIMIT_BYTES, SPARE_BODY_BYTES
from memcache_kv.server import admin, admin_loop
from memcache_kv.server.condition import OBSTACLES, STUCK_SECONDS
from memcache_kv.server.probes import NOT_READY_STATUS
from tests.program import run_to_its_end
from tests.protocol.admin.test_site import PAGES, PROBES
from tests.reference.pages import page_path

PAGE = page_path("admin.md").read_text()


def test_every_path_is_listed_with_whether_it_needs_a_token() -> None:
    listed = dict(re.findall(r"^\| `GET (/[\w.]+)` \| .* \| (yes|no) \|$", PAGE, re.MULTILINE))
    assert listed == dict.fromkeys(PROBES, "yes") | dict.fromkeys(PAGES, "no")


def test_every_reason_is_listed() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| (both|`/readyz`) \|", PAGE, re.MULTILINE))
    expected = {reason.reason: "`/readyz`" for reason in OBSTACLES.values()}
    assert listed == expected | {"stuck": "both", "fault": "both", "journal": "`/readyz`"}


def test_the_limits_are_those_of_the_code() -> None:
    assert STUCK_SECONDS == 10
    assert (SPARE_BODY_BYTES, HEAD_LIMIT_BYTES) == (64 << 10, 16 << 10)
    assert admin_loop.SPARE_CONNECTIONS == 4
    text = " ".join(PAGE.split())
    for said in (
        f"{admin.ADMIN_CONNECTIONS} connections, and {admin.ADMIN_CONNECTIONS_PER_ADDRESS} from one address",
        f"may take {admin_loop.REQUEST_SECONDS:.0f} seconds each, a reply {admin_loop.REPLY_SECONDS:.0f}, "
        f"and a connection may be idle for {admin_loop.KEEP_ALIVE_SECONDS:.0f}",
    ):
        assert said in text


def test_every_flag_of_the_health_command_is_listed() -> None:
    flags = set(re.findall(r"--[a-z]+", run_to_its_end("health", "--help").stdout)) - {"--help"}
    rows = re.findall(r"^\| (`--.*?) \|", PAGE, re.MULTILINE)
    assert {flag for row in rows for flag in re.findall(r"--[a-z]+", row)} == flags
    assert f"| {NOT_READY_STATUS} | with `--ready`" in PAGE
