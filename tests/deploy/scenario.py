"""What a real systemd does with the units of deploy/systemd/. It runs as a service of that systemd; see booted.py.

It uses the standard library only, and writes what it has seen to /shared/result.json.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

SHARED = Path("/shared")
PORT, HTTP_PORT, OTHER_PORT = 11211, 8080, 11300
SERVICE = "memcache-kv.service"
DIRECT = "/run/memcache-kv/direct.sock"
"""A unix socket that the server makes itself."""


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def show(unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit."""
    lines = run("systemctl", "show", "-p", ",".join(names), unit).splitlines()
    return dict(line.split("=", 1) for line in lines)


def ask(request: bytes, address: "str | tuple[str, int]" = ("127.0.0.1", PORT)) -> bytes:
    """The first line of a reply, on a new connection."""
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as client:
        client.settimeout(60)
        client.connect(address)
        client.sendall(request)
        return client.makefile("rb").readline()


class Load:
    """Threads that open a connection for each request, until they are stopped."""

    def __init__(self, threads: int) -> None:
        self.served = 0
        self.refused: list[str] = []
        self.broken: list[str] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", PORT), timeout=60) as client:
                    self._request(client)
            except OSError as error:
                with self._lock:
                    self.refused.append(repr(error))
            time.sleep(0.002)

    def _request(self, client: socket.socket) -> None:
        """Store and read on a connection. One that the server had accepted before it stopped may be closed."""
        try:
            client.sendall(b"set k 0 0 1\r\nv\r\nget k\r\n")
            reply = client.makefile("rb").readline()
        except OSError as error:
            reply = repr(error).encode()
        with self._lock:
            if reply == b"STORED\r\n":
                self.served += 1
            else:
                self.broken.append(reply.decode())

    def stop(self) -> dict[str, Any]:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return {"served": self.served, "refused": self.refused, "broken": self.broken}


def main_pid(unit: str = SERVICE) -> int:
    return int(show(unit, "MainPID")["MainPID"])


def wait_for_another(pids: set[int]) -> None:
    """Wait until the service has another main process than these."""
    give_up_at = time.monotonic() + 60
    while main_pid() in pids | {0}:
        assert time.monotonic() < give_up_at, run("systemctl", "show", SERVICE)
        time.sleep(0.02)


def wait_until_it_serves() -> None:
    """Wait until systemd has read what the server has told it."""
    give_up_at = time.monotonic() + 60
    while True:
        found = show(SERVICE, "SubState", "StatusText")
        if found["SubState"] == "running" and found["StatusText"].startswith("serving"):
            return
        assert time.monotonic() < give_up_at, found
        time.sleep(0.02)


def prepare() -> None:
    """Install the user, the folders and the configuration as docs/howto/systemd.md says."""
    run("systemd-sysusers", str(SHARED / "units" / "memcache-kv.sysusers.conf"))
    run("systemd-tmpfiles", "--create", str(SHARED / "units" / "memcache-kv.tmpfiles.conf"))
    folder = Path("/etc/memcache-kv")
    (folder / "memcache-kv.conf").write_bytes((SHARED / "units" / "memcache-kv.conf").read_bytes())
    (folder / "other.conf").write_text(
        f"# like /etc/memcached.conf\n-d\n-m 64\n-p {OTHER_PORT}\n-l 127.0.0.1\n-s {DIRECT}\n-u memcache\n"
    )
    (folder / "bad.conf").write_text("prot = 5\n")
    for path in folder.iterdir():
        shutil.chown(path, group="memcache-kv")
        path.chmod(0o640)
    drop_in = Path(f"/etc/systemd/system/{SERVICE}.d/watchdog.conf")
    limits = "[Unit]\nStartLimitIntervalSec=0\n"  # it is started more often than a service should be
    drop_in.write_text(f"{limits}[Service]\nWatchdogSec=2\nTimeoutAbortSec=2\n")
    run("systemctl", "daemon-reload")


def see() -> dict[str, Any]:
    seen: dict[str, Any] = {}
    run("systemctl", "start", "memcache-kv.socket", "memcache-kv-http.socket")
    seen["before"] = show(SERVICE, "ActiveState")
    seen["first answer"] = ask(b"set a 0 0 1\r\nv\r\n").decode()
    wait_until_it_serves()
    seen["started"] = show(SERVICE, "ActiveState", "SubState", "StatusText", "User")
    with urllib.request.urlopen(f"http://127.0.0.1:{HTTP_PORT}/v1/kv/a") as reply:
        seen["http"] = reply.read().decode()
    status = Path(f"/proc/{main_pid()}/status").read_text()
    seen["process"] = dict(
        line.split(":\t", 1) for line in status.splitlines() if line.startswith(("Seccomp:", "CapBnd", "NoNew"))
    )

    load, pids = Load(4), {main_pid()}
    for signum in (None, None, signal.SIGUSR1, signal.SIGKILL):
        time.sleep(0.5)
        if signum is None:
            run("systemctl", "restart", SERVICE)
        else:
            os.kill(main_pid(), signum)
            wait_for_another(pids)
        pids.add(main_pid())
    time.sleep(0.5)
    seen["load"], seen["processes"] = load.stop(), len(pids)
    seen["kept"] = ask(b"get a\r\n").decode()

    run("systemctl", "reload", SERVICE)
    wait_until_it_serves()
    seen["reloaded"] = show(SERVICE, "ActiveState", "SubState", "StatusText")

    stuck = main_pid()
    os.kill(stuck, signal.SIGSTOP)
    wait_for_another({stuck})
    seen["after the watchdog"] = ask(b"get a\r\n").decode()

    run("systemctl", "start", "memcache-kv@other.service")
    seen["other"] = ask(b"version\r\n", ("127.0.0.1", OTHER_PORT)).decode()
    seen["direct"] = ask(b"version\r\n", DIRECT).decode()
    run("systemctl", "stop", "memcache-kv@other.service")
    seen["other stopped"] = show("memcache-kv@other.service", "ActiveState", "Result")
    run("systemctl", "start", "memcache-kv@other.socket")
    seen["unix"] = ask(b"version\r\n", "/run/memcache-kv/other.sock").decode()
    seen["not twice"] = ask(b"version\r\n", ("127.0.0.1", OTHER_PORT)).decode()

    subprocess.run(["systemctl", "start", "memcache-kv@bad.service"], capture_output=True, check=False)
    seen["bad"] = show("memcache-kv@bad.service", "ActiveState", "ExecMainStatus", "NRestarts")
    run("systemctl", "stop", "memcache-kv.socket", "memcache-kv-http.socket", SERVICE)
    seen["stopped"] = show(SERVICE, "ActiveState", "Result", "ExecMainStatus")
    return seen


if __name__ == "__main__":
    prepare()
    (SHARED / "result.json").write_text(json.dumps(see()))
