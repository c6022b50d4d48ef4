"""A program of greenlets with servers in it: `python -m tests.api.greenlet_program DIRECTORY`.

Says nothing and ends with status 0 if all is as it should be.
"""

from gevent import monkey  # type: ignore[import-untyped]

monkey.patch_all()

import ssl  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import closing, contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
from pymemcache.client.base import Client  # type: ignore[import-untyped]  # noqa: E402

from memcache_kv import Server, Store  # noqa: E402
from memcache_kv.config.memcached_options import TlsOptions  # noqa: E402
from tests.certificates import Certificates, make_certificates  # noqa: E402
from tests.ports import free_port  # noqa: E402

CLIENTS, TURNS, PATIENCE = 20, 20, 60


@contextmanager
def others_run() -> Iterator[None]:
    """Check that other greenlets get their turn during the block."""
    turns: list[None] = []

    def take_turns() -> None:
        while True:
            turns.append(None)
            gevent.sleep(0)

    other = gevent.spawn(take_turns)
    gevent.sleep(0)
    before = len(turns)
    try:
        yield
    finally:
        other.kill()
    assert len(turns) > before + 1, "the other greenlet had to wait"


def use(server: Server, number: int, tls: ssl.SSLContext | None = None) -> None:
    """Be a client of this number."""
    with closing(Client(server.address, timeout=PATIENCE, default_noreply=False, tls_context=tls)) as client:
        for turn in range(TURNS):
            client.set(f"{number}-{turn}", b"value")
            assert client.get(f"{number}-{turn}") == b"value"


def check_clients(server: Server, tls: ssl.SSLContext | None = None) -> None:
    """Use a server from greenlets, and from what the program takes for threads."""
    greenlets = [gevent.spawn(use, server, number, tls) for number in range(CLIENTS)]
    gevent.joinall(greenlets, timeout=PATIENCE, raise_error=True)
    assert all(greenlet.successful() for greenlet in greenlets)
    thread = threading.Thread(target=use, args=(server, CLIENTS, tls))
    thread.start()
    thread.join()
    assert len(server.store) == (CLIENTS + 1) * TURNS


def check_journal(directory: Path) -> None:
    """Start, stop and start again with a journal."""
    server = Server(port=free_port(), journal=directory, fsync="always", rotate_seconds=3600, verbose=1)
    with others_run():
        server.start()
    check_clients(server)
    with others_run():
        server.stop()
    with server:
        assert len(server.store) == (CLIENTS + 1) * TURNS
    with Store(journal=directory) as store:
        assert store.get("0-0") == b"value"
        store.set("key", b"value", ttl=100)


def check_tls(directory: Path, certificates: Certificates) -> None:
    """Have encrypted connections, and all other listeners."""
    tls = TlsOptions(str(certificates.chain), str(certificates.key))
    ways = {"admin_listen": "127.0.0.1:0", "line_listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0"}
    fields: dict[str, Any] = {"enable_ssl": True, "tls": tls, "udp_port": free_port(), "idle_timeout": 1, **ways}
    with Server(**fields) as server:
        check_clients(server, certificates.context())


def check_time() -> None:
    """Let an item expire, while greenlets sleep."""
    with Server() as server, closing(Client(server.address, timeout=PATIENCE)) as client:
        client.set("key", b"value", expire=1)
        give_up_at = time.monotonic() + PATIENCE
        while client.get("key") is not None:
            assert time.monotonic() < give_up_at
            time.sleep(0.05)


def main() -> None:
    """Check everything."""
    directory = Path(sys.argv[1])
    check_journal(directory / "journal")
    check_tls(directory, make_certificates(directory / "certificates"))
    check_time()


if __name__ == "__main__":
    main()
