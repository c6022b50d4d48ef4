"""Three servers, and the proxies with the files of deploy/cluster/, on free ports of this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from clients.address import DEFAULT_HOST, Address
from clients.cluster_bench.ways import Targets, WayKind
from clients.local_server import LocalServer, ServerStartError, accepts, default_command, free_port

FILES = Path(__file__).resolve().parent.parent.parent / "deploy" / "cluster"
NODE_COUNT = 3
START_SECONDS = 30.0
STOP_SECONDS = 10.0
NGINX_PORT, NGINX_OTHER_PORT = 8000, 8001
"""nginx's servers in nginx.conf: by key, and in turn."""
TWEMPROXY_PORT, TWEMPROXY_OTHER_PORT = 11311, 11312
"""twemproxy's pools in twemproxy.yaml: the store, and the cache."""


def find_program(name: str) -> str | None:
    """Find a proxy's program, also where only the system's programs are."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


@contextmanager
def running_nodes() -> Iterator[Targets]:
    """Start three servers with a journal each; stop them at the end. Raises ServerStartError."""
    with ExitStack() as started:
        folder = started.enter_context(tempfile.TemporaryDirectory())
        memcached, http = [], []
        for number in range(1, NODE_COUNT + 1):
            http.append(Address(DEFAULT_HOST, free_port()))
            flags = ["--journal", f"{folder}/{number}", "--http-listen", str(http[-1])]
            memcached.append(started.enter_context(LocalServer(default_command(), flags)).address)
        yield Targets(memcached, http)


@contextmanager
def proxied(targets: Targets, kind: WayKind) -> Iterator[Targets]:
    """Start a way's proxy before the nodes, if it has one. Raises ServerStartError."""
    if not kind.program:
        yield targets
        return
    program = find_program(kind.program)
    assert program is not None
    with tempfile.TemporaryDirectory() as folder:
        address = Address(DEFAULT_HOST, free_port())
        start = _nginx_command if kind.program == "nginx" else _twemproxy_command
        process = subprocess.Popen(
            [program, *start(Path(folder), targets, address.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_until_it_accepts(process, address)
            yield Targets(targets.memcached, targets.http, address)
        finally:
            _stop(process)


def _nginx_command(folder: Path, targets: Targets, port: int) -> Sequence[str]:
    text = with_nodes((FILES / "nginx.conf").read_text(), targets.http, 8080)
    text = text.replace(f"listen {NGINX_PORT};", f"listen {DEFAULT_HOST}:{port};")
    text = text.replace(f"listen {NGINX_OTHER_PORT};", f"listen {DEFAULT_HOST}:{free_port()};")
    (folder / "nginx.conf").write_text(text)
    as_this_user = "user root; " if os.geteuid() == 0 else ""
    return ["-p", f"{folder}/", "-c", f"{folder}/nginx.conf", "-g", f"{as_this_user}daemon off;"]


def _twemproxy_command(folder: Path, targets: Targets, port: int) -> Sequence[str]:
    text = with_nodes((FILES / "twemproxy.yaml").read_text(), targets.memcached, 11211)
    text = text.replace(f"0.0.0.0:{TWEMPROXY_PORT}", f"{DEFAULT_HOST}:{port}")
    text = text.replace(f"0.0.0.0:{TWEMPROXY_OTHER_PORT}", f"{DEFAULT_HOST}:{free_port()}")
    (folder / "twemproxy.yaml").write_text(text)
    stats = [f"--stats-addr={DEFAULT_HOST}", f"--stats-port={free_port()}"]
    return [f"--conf-file={folder}/twemproxy.yaml", *stats, "--verbose=0", "--output=/dev/null"]


def with_nodes(text: str, nodes: Sequence[Address], port: int) -> str:
    """Put these addresses in place of node1, node2 and node3 in a configuration; leave the lines of others out."""
    for number, address in enumerate(nodes, 1):
        text = text.replace(f"node{number}:{port}", str(address))
    return re.sub(rf"^.*\bnode\d:{port}.*\n", "", text, flags=re.MULTILINE)


def _wait_until_it_accepts(process: subprocess.Popen[bytes], address: Address) -> None:
    give_up_at = time.monotonic() + START_SECONDS
    while not accepts(address):
        if process.poll() is not None or time.monotonic() > give_up_at:
            raise ServerStartError(f"the proxy does not run: {process.args!r}")
        time.sleep(0.01)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
