"""The real program with an admin listener."""

import http.client
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.program import PATIENCE_SECONDS, Program

HEARD = re.compile(r"^the admin listener answers on 127\.0\.0\.1:(\d+)(?:,.*)?$", re.MULTILINE)


class AdminProgram(Program):
    """A server with an admin listener, once that answers. The items may not be loaded yet."""

    def __init__(self, *flags: str) -> None:
        super().__init__("-p", "0", "-l", "127.0.0.1", "--admin-listen", "127.0.0.1:0", *flags)

    def wait_for(self, text: bytes) -> None:
        """Wait for the admin listener first."""
        super().wait_for(b"the admin listener answers on " if text == b"listening on " else text)

    def wait_until_loaded(self) -> None:
        super().wait_for(b"listening on ")

    @property
    def admin_port(self) -> int:
        match = HEARD.search(self.said.decode())
        assert match is not None
        return int(match[1])

    def get(self, path: str) -> tuple[int, Any]:
        """The status of a reply, and its body in JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=PATIENCE_SECONDS)
        connection.request("GET", path)
        reply = connection.getresponse()
        body = reply.read()
        connection.close()
        return reply.status, json.loads(body)

    def reasons(self) -> list[str]:
        """What keeps it from being ready."""
        status, body = self.get("/readyz")
        found = [each["reason"] for each in body["reasons"]]
        assert (status, body["status"]) == ((503, "not ready") if found else (200, "ready"))
        return found


@contextmanager
def loaded(*flags: str) -> Iterator[AdminProgram]:
    with AdminProgram(*flags) as program:
        program.wait_until_loaded()
        yield program
