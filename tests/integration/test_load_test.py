"""The load tester, as a program, against real servers."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.integration.wire import RunningServer, Wire
from tests.ports import free_port
from tests.program import PATIENCE_SECONDS, Program, poll_until

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = ("--connections", "4", "--requests", "25", "--keys", "50")


def run(*arguments: str, program: tuple[str, ...] = ("-m", "clients.load_test")) -> subprocess.CompletedProcess[str]:
    """Run the program in the clone; return status, output and errors."""
    return subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def figures(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """Run the program, see that its status fits its verdict, and return the figures of its one measurement."""
    output = tmp_path / "result.json"
    done = run(*arguments, "--output", str(output))
    assert done.stderr == ""
    told = json.loads(output.read_text())
    assert done.returncode == (0 if told["passed"] else 1)
    assert done.stdout.count("pass") + done.stdout.count("FAIL") == 5
    [measurement] = told["measurements"]
    assert isinstance(measurement, dict)
    return measurement


@pytest.mark.parametrize("protocol", ["text", "meta", "binary"])
def test_it_loads_any_memcached(shared_server: RunningServer, tmp_path: Path, protocol: str) -> None:
    port = str(shared_server.port)
    found = figures(tmp_path, "--protocol", protocol, "--host", "127.0.0.1", "--port", port, "--pipeline", "3", *SMALL)
    assert (found["requests"], found["errors"], found["hit_rate"], found["miss"]) == (100, 0, 1.0, 0)
    assert found["stored"] + found["hit"] == 100
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99.9"] <= found["latency_ms"]["max"]


def port_of(program: Program, dialect: str) -> str:
    """The port of a listener, as the server's log says."""
    match = re.search(rf"127\.0\.0\.1:(\d+) \({dialect}\)", program.said.decode())
    assert match is not None
    return match[1]


def start(dialect: str) -> Program:
    return Program("-p", "0", "-l", "127.0.0.1", f"--{dialect}-listen", "127.0.0.1:0")


@pytest.mark.parametrize("dialect", ["line", "http"])
def test_it_loads_the_other_protocols(tmp_path: Path, dialect: str) -> None:
    with start(dialect) as program:
        port = port_of(program, dialect)
        found = figures(tmp_path, "--protocol", dialect, "--host", "127.0.0.1", "--port", port, "--ttl", "60", *SMALL)
    assert (found["requests"], found["errors"], found["hit_rate"]) == (100, 0, 1.0)


def test_users_are_measured_one_number_after_the_other(tmp_path: Path) -> None:
    output, page = tmp_path / "result.json", tmp_path / "result.html"
    files = ("--output", str(output), "--html", str(page))
    with start("http") as program:
        where = ("--host", "127.0.0.1", "--port", port_of(program, "http"))
        done = run("--users", "1,3", "--keys", "700", "--requests", "40", *where, *files)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(output.read_text())
    assert [(found["connections"], found["requests"], found["hit"]) for found in told["measurements"]] == [
        (1, 40, 40),
        (3, 120, 120),
    ]
    assert "3 users" in page.read_text()


def test_several_processes_share_connections_rate_and_keys(shared_server: RunningServer, tmp_path: Path) -> None:
    where = ("--protocol", "text", "--host", "127.0.0.1", "--port", str(shared_server.port))
    found = figures(tmp_path, *where, "--processes", "2", "--connections", "3", "--rate", "500", "--duration", "0.3")
    assert (found["requests"], found["errors"], found["hit_rate"]) == (150, 0, 1.0)
    assert found["seconds"] >= 149 / 500 - 0.01
    assert len(found["cpu_seconds"]) == 2


def test_rows_that_the_server_lacks_are_misses_and_the_status_says_so(
    shared_server: RunningServer, tmp_path: Path
) -> None:
    rows = tmp_path / "rows"
    rows.write_text("".join(f"no-such-key-{number} value\n" for number in range(20)))
    where = ("--protocol", "text", "--host", "127.0.0.1", "--port", str(shared_server.port))
    done = run(*where, "--rows", str(rows), "--ratio", "0", "--connections", "2", "--requests", "10")
    assert done.returncode == 1
    assert re.search(r"hit rate +│ > 99% +│ 0.00% +│ FAIL", done.stdout)


def test_what_the_server_does_not_store_is_told(shared_server: RunningServer) -> None:
    where = ("--protocol", "text", "--host", "127.0.0.1", "--port", str(shared_server.port))
    done = run(*where, "--value-size", "2000000", "--keys", "1")
    assert done.returncode == 3
    assert done.stderr.endswith("the server does not store a key: SERVER_ERROR object too large for cache\n")


def test_without_a_server_one_line_says_so() -> None:
    port = free_port()
    done = run("--host", "127.0.0.1", "--port", str(port))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"127.0.0.1:{port}: Connection refused\n"


def test_a_terminal_shows_a_line_while_it_runs(shared_server: RunningServer) -> None:
    main, other = pty.openpty()
    where = ["--protocol", "text", "--host", "127.0.0.1", "--port", str(shared_server.port)]
    command = [sys.executable, "-m", "clients.load_test", *where, "--connections", "2", "--duration", "0.8"]
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdin=other, stdout=other, stderr=other) as process:
        os.close(other)
        said = b""
        try:
            while piece := os.read(main, 65536):
                said += piece
        except OSError:  # the other end is closed
            pass
        os.close(main)
    assert process.returncode in (0, 1)
    shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", said.decode())
    assert re.search(r"measuring ━+ \d s  [\d,]+/s  mean [\d.]+ ms  p99 [\d.]+ ms  errors 0  hits 100.0%", shown)


def gets_of(server: RunningServer) -> int:
    with Wire(server) as wire:
        return int(wire.stats()["cmd_get"])


def test_ctrl_c_ends_the_load_and_reports_it(shared_server: RunningServer, tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    where = ["--protocol", "text", "--host", "127.0.0.1", "--port", str(shared_server.port)]
    command = [sys.executable, "-m", "clients.load_test", *where, "--duration", "1000", "--output", str(output)]
    before = gets_of(shared_server)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True) as process:
        poll_until(lambda: gets_of(shared_server) > before, "a get")
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode in (0, 1)
    assert b"Ctrl-C ended the load early." in said
    [measurement] = json.loads(output.read_text())["measurements"]
    assert measurement["interrupted"]
    assert measurement["hit"] > 0


WITHOUT = "import sys; sys.modules[sys.argv[1]] = None; sys.argv[1:] = ['--help']; import runpy; " + (
    "runpy.run_module('clients.load_test', run_name='__main__')"
)


@pytest.mark.parametrize("package", ["rich", "hdrh"])
def test_without_a_package_one_line_says_how_to_install_it(package: str) -> None:
    done = run(package, program=("-c", WITHOUT))
    assert done.returncode == 1
    assert "pip install '.[load]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_processes_of_the_load_and_other_programs_do_without_its_packages() -> None:
    code = "import sys; sys.modules['hdrh'] = sys.modules['rich'] = None; import clients.load_test.worker, clients.rows"
    assert run(program=("-c", code)).stderr == ""


LOCUST = ("--headless", "--users", "20", "--spawn-rate", "20", "--run-time", "4s", "--wait", "0.2", "--only-summary")


@pytest.mark.long
def test_locust_finds_no_failures(shared_server: RunningServer, tmp_path: Path) -> None:
    if find_spec("locust") is None:  # it is not imported here, as it replaces the threads of the process that does
        pytest.skip("locust is not installed")
    with start("line") as program:
        addresses = (
            "--line",
            f"127.0.0.1:{port_of(program, 'line')}",
            "--memcached",
            f"127.0.0.1:{shared_server.port}",
        )
        where = ("--csv", str(tmp_path / "found"), *addresses)
        done = run("-f", "clients/locustfile.py", *LOCUST, *where, program=("-m", "locust"))
    assert done.returncode == 0, done.stderr
    rows = [line.split(",") for line in (tmp_path / "found_stats.csv").read_text().splitlines()]
    counts = {(row[0], row[1]): (int(row[2]), int(row[3])) for row in rows[1:]}
    assert counts.keys() >= {("line", "PUT"), ("line", "GET"), ("memcached", "set"), ("memcached", "get")}
    assert all(requests > 0 and not failures for requests, failures in counts.values())
