"""The cluster of deploy/cluster/ in a network of its own: our nodes, with the real nginx and twemproxy in front."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from pymemcache.client.base import Client  # type: ignore[import-untyped]
from pymemcache.client.hash import HashClient  # type: ignore[import-untyped]

from tests.closing import Closing
from tests.deploy.network import HOSTS, Network, NetworkSockets, why_there_is_none
from tests.program import command, environment, poll_until

FILES = Path(__file__).resolve().parent.parent.parent / "deploy" / "cluster"
NODES = ("node1", "node2", "node3")
STORE, CACHE = "localhost:11311", "localhost:11312"
"""twemproxy's pools."""
BY_KEY, IN_TURN = "localhost:8000", "localhost:8001"
"""nginx's servers."""
PROXY = "localhost:11411"
"""memcached's proxy."""
MEMCACHED_PORT, HTTP_PORT = 11211, 8080


def read_compose() -> dict[str, Any]:
    """The services and volumes that `docker compose` would make."""
    parsed = yaml.safe_load((FILES / "compose.yaml").read_text())
    assert isinstance(parsed, dict)
    return parsed


def program_of(package: str, name: str) -> str:
    """The path of a program; without it, a test is skipped, and fails in CI."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is not None:
        return found
    return give_up(f"{name} is not installed: it is in Debian's {package}")


def give_up(reason: str) -> str:
    """Skip the test, or let it fail in CI."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class Running:
    """A process inside the network."""

    def __init__(self, words: Sequence[str], log: Path, **variables: str) -> None:
        self._log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                words, env=environment(**variables), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something holds, as long as the process runs."""

        def holds() -> bool:
            assert self.process.poll() is None, f"it ended: {self._log.read_text()}"
            return condition()

        poll_until(holds, what)

    def end(self, signum: int = signal.SIGKILL) -> None:
        """Send a signal, and wait for the end."""
        self.process.send_signal(signum)
        self.process.wait(60)


class Cluster(Closing):
    """The three nodes, and what a test puts in front of them."""

    def __init__(self, folder: Path) -> None:
        reason = why_there_is_none()
        if reason is not None:
            give_up(reason)
        self._folder = folder
        self._network = Network()
        self._sockets = NetworkSockets(self._network)
        self._running: dict[str, Running] = {}
        self._clients: list[Client | HashClient] = []

    def start_nodes(self, *names: str, journal: bool = True) -> None:
        """Start nodes with the command of compose.yaml, each on its own address and with a journal of the test's."""
        for name in names:
            words = [word.replace("0.0.0.0", HOSTS[name]) for word in read_compose()["services"][name]["command"]]
            at = words.index("--journal")
            words[at : at + 2] = ["--journal", str(self._folder / name)] if journal else []
            self._start(name, command(*words), MEMCACHE_KV_LISTEN=HOSTS[name])
        for name in names:
            self._running[name].wait_until(partial(self._answers, name), name)

    def start_twemproxy(self) -> None:
        """Start Debian's nutcracker as its image does, with the file of deploy/cluster/."""
        [line] = re.findall("^ENTRYPOINT (.*)$", (FILES / "twemproxy.Dockerfile").read_text(), re.MULTILINE)
        name, *flags = json.loads(line)
        words = [program_of("nutcracker", name), *flags, f"--conf-file={FILES / 'twemproxy.yaml'}"]
        self._start("twemproxy", words)
        for address in (STORE, CACHE):
            self._running["twemproxy"].wait_until(partial(self._passes_on, address), address)

    def start_nginx(self) -> None:
        """Start Debian's nginx with the file of deploy/cluster/."""
        prefix = self._folder / "nginx"
        prefix.mkdir()
        as_this_user = "user root; " if os.geteuid() == 0 else ""
        words = ["-p", f"{prefix}/", "-c", str(FILES / "nginx.conf"), "-g", f"{as_this_user}daemon off;"]
        self._start("nginx", [program_of("nginx", "nginx"), *words])
        self._running["nginx"].wait_until(lambda: self.ask(BY_KEY, "GET", "/no-such-key")[0] == 404, "nginx answers")

    def start_memcached_proxy(self, file: str) -> None:
        """Start memcached's proxy, whose binary MEMCACHED_PROXY names, with a file of deploy/cluster/."""
        program = os.environ.get("MEMCACHED_PROXY")
        if program is None:
            pytest.skip("MEMCACHED_PROXY names no memcached that is built with --enable-proxy")
        words = ["-u", "root", "-p", "11411", "-o", f"proxy_config=routelib,proxy_arg={FILES / file}"]
        self._start("proxy", [program, *words])
        self._running["proxy"].wait_until(partial(self._passes_on, PROXY), "the proxy passes commands on")

    def _start(self, name: str, words: Sequence[str], **variables: str) -> None:
        self._running[name] = Running(self._network.command(*words), self._folder / f"{name}.log", **variables)

    def missing_nodes(self) -> list[str]:
        """The nodes that do not run."""
        return [name for name in NODES if name not in self._running]

    def kill(self, name: str) -> None:
        """Kill a node as a failing machine would."""
        self._running.pop(name).end()

    def client(self, inside: str) -> Client:
        """A pymemcache client of an address inside."""
        host, _, port = inside.partition(":")
        client = Client((host, int(port)), timeout=30, connect_timeout=30, socket_module=self._sockets)
        self._clients.append(client)
        return client

    def hash_client(self, **options: Any) -> HashClient:
        """A client that finds a key's node by itself."""
        client = HashClient([(name, MEMCACHED_PORT) for name in NODES], socket_module=self._sockets, **options)
        self._clients.append(client)
        return client

    def keys_of(self, name: str, keys: Sequence[str]) -> set[str]:
        """Those of the keys that a node has."""
        with closing(self.client(f"{name}:{MEMCACHED_PORT}")) as client:
            return set(client.get_many(keys))

    def empty(self) -> None:
        """Remove all items of all nodes."""
        for name in NODES:
            with closing(self.client(f"{name}:{MEMCACHED_PORT}")) as client:
                assert client.flush_all(noreply=False)

    def ask(self, inside: str, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Send a request over HTTP; return the status and the body, or the status 0 where nobody answers."""
        connection = NetworkConnection(self._network, inside)
        try:
            connection.request(method, path, body)
            reply = connection.getresponse()
            return reply.status, reply.read()
        except (http.client.HTTPException, OSError):
            return 0, b""
        finally:
            connection.close()

    def _answers(self, name: str) -> bool:
        """Whether a node answers."""
        return self._reply(f"{name}:{MEMCACHED_PORT}", b"version\r\n").startswith(b"VERSION")

    def _passes_on(self, proxy: str) -> bool:
        """Whether a proxy passes a command on to a node."""
        return self._reply(proxy, b"delete no-such-key\r\n") == b"NOT_FOUND\r\n"

    def _reply(self, inside: str, request: bytes) -> bytes:
        """What comes back for a request; empty where nobody answers."""
        try:
            with self._network.connect(inside, 10.0) as connection:
                connection.sendall(request)
                return connection.recv(100)
        except OSError:
            return b""

    def close(self) -> None:
        for client in self._clients:
            client.close()
        for name, running in self._running.items():
            running.end(signal.SIGKILL if name in NODES else signal.SIGTERM)  # a killed nginx leaves its workers behind
        self._network.close()


class NetworkConnection(http.client.HTTPConnection):
    """HTTP to an address inside a network."""

    def __init__(self, network: Network, inside: str) -> None:
        super().__init__("localhost")
        self._network = network
        self._inside = inside

    def connect(self) -> None:
        self.sock = self._network.connect(self._inside)
