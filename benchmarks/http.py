"""HTTP beside a Flask application that does the same, and beside webdis with Redis.

Run it as `python -m benchmarks.http` on an idle machine. It needs wrk, which makes the load; the package extra
`contenders` for Flask and gunicorn; and webdis with redis-server. What is missing is left out, and named.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import importlib.util
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from clients.local_server import free_port

CONNECTIONS = 50
VALUE = "0123456789" * 4
KEYS = 10_000
PATIENCE_SECONDS = 30.0
FLASK_BOUND, WEBDIS_BOUND = 10.0, 0.5
THREADS = 8
"""Of gunicorn's one process, as the application keeps its values in memory."""

SCRIPT = """\
local requests, number = {}, 0
init = function(arguments)
  for count = 1, %(keys)d do
    local key = "key_" .. count
    requests[count] = wrk.format(%(method)s, %(path)s, %(headers)s, %(body)s)
  end
end
request = function()
  number = number %% %(keys)d + 1
  return requests[number]
end
"""
"""For wrk: a request for each key in turn. All are made beforehand, so that the load takes little of the processor."""


class Load(NamedTuple):
    """A load: how a request is made. The strings are expressions of Lua, in which `key` is the key."""

    name: str
    method: str
    path: str
    body: str = "nil"

    def script(self) -> str:
        """Return the script for wrk."""
        headers = "nil" if self.body == "nil" else '{["Content-Type"] = "application/json"}'
        fields = {"keys": KEYS, "method": self.method, "path": self.path, "headers": headers, "body": self.body}
        return SCRIPT % fields


JSON_BODY = json.dumps(json.dumps({"value": VALUE}))
READ, STORE = Load("read", '"GET"', '"/" .. key'), Load("store", '"PUT"', '"/" .. key', JSON_BODY)
RAW = '"/v1/kv/" .. key'


class HttpServer(NamedTuple):
    """A server under test: the commands that start it, and its loads, of which the first stores."""

    name: str
    commands: Sequence[Sequence[str]]
    port: int
    loads: Sequence[Load]


def ours() -> list[HttpServer]:
    """Return this server with each of its interfaces."""
    found = []
    for name, loads in (
        ("memcache_kv, /{key}", (STORE, READ)),
        ("memcache_kv, /v1/kv/{key}", (STORE._replace(path=RAW, body=json.dumps(VALUE)), READ._replace(path=RAW))),
    ):
        port = free_port()
        command = [sys.executable, "-m", "memcache_kv", "-p", "0", "--http-listen", f"127.0.0.1:{port}"]
        found.append(HttpServer(name, [command], port, loads))
    return found


def flask() -> HttpServer | None:
    """Return the Flask application; None if its packages are missing."""
    if importlib.util.find_spec("flask") is None or importlib.util.find_spec("gunicorn") is None:
        return None
    port = free_port()
    options = ["-w", "1", "--threads", str(THREADS), "-b", f"127.0.0.1:{port}", "benchmarks.row_c:app"]
    command = [sys.executable, "-m", "gunicorn", "--log-level", "error", *options]
    return HttpServer(f"Flask, gunicorn with {THREADS} threads", [command], port, (STORE, READ))


def webdis(directory: Path) -> HttpServer | None:
    """Return webdis with Redis; None if one of them is missing. directory: for its settings."""
    if shutil.which("webdis") is None or shutil.which("redis-server") is None:
        return None
    port, redis_port = free_port(), free_port()
    settings = {
        "redis_host": "127.0.0.1", "redis_port": redis_port, "http_host": "127.0.0.1", "http_port": port, "threads": 4,
        "pool_size": 20, "daemonize": False, "websockets": False, "database": 0, "verbosity": 1,
        "logfile": str(directory / "webdis.log"),
    }  # fmt: skip
    path = directory / "webdis.json"
    path.write_text(json.dumps(settings))
    redis = ["redis-server", "--port", str(redis_port), "--save", "", "--bind", "127.0.0.1"]
    loads = (Load("store", '"GET"', f'"/SET/" .. key .. "/{VALUE}"'), Load("read", '"GET"', '"/GET/" .. key'))
    return HttpServer("webdis and Redis", [redis, ["webdis", str(path)]], port, loads)


@contextlib.contextmanager
def running(server: HttpServer) -> Iterator[None]:
    """Start a server, wait until it answers, and stop it at the end."""
    processes = []
    try:
        for command in server.commands:
            processes.append(
                subprocess.Popen(
                    command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
                )
            )
        _wait_for(server.port)
        yield
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def _wait_for(port: int) -> None:
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", "/GET/key")
            connection.getresponse().read()
            return
        except OSError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.1)
        finally:
            connection.close()


class Measured(NamedTuple):
    """What wrk reports: successful requests a second, and the 99th percentile of the latencies in milliseconds."""

    rate: float
    slow_ms: float


UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def measure(server: HttpServer, load: Load, seconds: int, directory: Path) -> Measured:
    """Give a load to a running server; count the replies that are no errors, as webdis has some."""
    script = directory / "load.lua"
    script.write_text(load.script())
    url = f"http://127.0.0.1:{server.port}"
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", "--latency", "-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate, slow = re.search(r"Requests/sec:\s+([\d.]+)", said), re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
    requests = re.search(r"(\d+) requests in", said)
    if rate is None or slow is None or requests is None:
        raise RuntimeError(f"wrk said {said!r}")
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    share = 0.0 if errors is None else int(errors[1]) / int(requests[1])
    return Measured(float(rate[1]) * (1 - share), float(slow[1]) * UNITS[slow[2]])


def compare(rounds: int, seconds: int) -> dict[str, dict[str, Measured]]:
    """Measure all servers in turn, so many times; return the medians by server and load."""
    found: dict[str, dict[str, list[Measured]]] = {}
    with tempfile.TemporaryDirectory(prefix="benchmark.") as name:
        directory = Path(name)
        servers = [each for each in (*ours(), flask(), webdis(directory)) if each is not None]
        for number in range(rounds):
            for server in servers if number % 2 == 0 else reversed(servers):
                with running(server):
                    for load in server.loads:
                        result = measure(server, load, seconds, directory)
                        found.setdefault(server.name, {}).setdefault(load.name, []).append(result)
                        print(f"round {number + 1}: {server.name}, {load.name}: {result.rate:,.0f}/s", file=sys.stderr)
    return {
        server: {load: _median(results) for load, results in loads.items()} for server, loads in found.items()
    }  # fmt: skip


def _median(results: Sequence[Measured]) -> Measured:
    return Measured(
        statistics.median(each.rate for each in results), statistics.median(each.slow_ms for each in results)
    )


def table(found: dict[str, dict[str, Measured]]) -> str:
    """Return the figures as a table in Markdown, with the ratios that are aimed at."""
    lines = ["| server | store/s | p99 ms | read/s | p99 ms |", "|---|---:|---:|---:|---:|"]
    for server, loads in found.items():
        cells = [f"{loads[load].rate:,.0f} | {loads[load].slow_ms:.1f}" for load in ("store", "read")]
        lines.append(f"| {server} | {' | '.join(cells)} |")
    for other, bound in (("Flask", FLASK_BOUND), ("webdis", WEBDIS_BOUND)):
        name = next((each for each in found if each.startswith(other)), None)
        if name is None:
            lines.append(f"\n{other} is missing: no comparison.")
            continue
        for own in (each for each in found if each.startswith("memcache_kv")):
            ratios = [found[own][load].rate / found[name][load].rate for load in ("store", "read")]
            verdict = "met" if min(ratios) >= bound else "missed"
            lines.append(
                f"\n{own} : {other}: store {ratios[0]:.1f}, read {ratios[1]:.1f}; at least {bound:g}: {verdict}"
            )
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of one load (default: 3)")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk, which makes the load, is not installed")
    print(table(compare(arguments.rounds, arguments.seconds)))


if __name__ == "__main__":
    main()
