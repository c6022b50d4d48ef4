"""The comparison of 1, 2 and 3 nodes: what it counts, which files it uses, and a whole run."""

import io
import json
import socket
import threading
import time
from array import array
from pathlib import Path

import pytest
from rich.console import Console

from clients.address import Address
from clients.cluster_bench.__main__ import main
from clients.cluster_bench.load import Part, Result, figures_of, percentile, run_part
from clients.cluster_bench.nodes import FILES, find_program, with_nodes
from clients.cluster_bench.report import json_of, table_of
from clients.cluster_bench.ways import WAYS, HttpConnection, Targets
from clients.local_server import LocalServer


def part(began: float, seconds: list[float], failed: int = 0) -> Part:
    return Part(began, began + sum(seconds), array("d", seconds), failed)


def test_the_time_of_a_phase_is_from_its_first_request_to_its_last() -> None:
    figures = figures_of([[part(10.0, [1.0, 1.0]), part(11.0, [0.5, 2.5])], [part(50.0, [1.0], failed=1)]])
    assert figures.requests == 5
    assert figures.per_second == 5 / (4.0 + 1.0)
    assert (figures.mean_ms, figures.p50_ms, figures.p99_ms) == (1200.0, 1000.0, 2500.0)
    assert figures.failed == 1


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentiles_are_values_that_occurred(share: float, value: float) -> None:
    assert percentile(range(1, 101), share) == value


def test_requests_that_do_not_do_what_they_should_count_as_failed(server: LocalServer) -> None:
    targets = Targets([server.address], [])

    def failed(operation: str) -> int:
        found = run_part("memcached", targets, operation, 0, 20, time.monotonic())
        assert len(found.seconds) == 20
        return found.failed

    assert [failed(each) for each in ("get", "set", "get", "delete", "delete")] == [20, 0, 0, 0, 20]


def test_requests_to_a_server_that_is_gone_count_as_failed(server: LocalServer) -> None:
    targets = Targets([server.address], [])
    server.kill()
    assert run_part("memcached", targets, "set", 0, 3, time.monotonic()).failed == 3


def test_a_connection_that_the_server_closes_after_a_reply_is_made_again() -> None:
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

    def answer_once_each(listener: socket.socket) -> None:
        for _ in range(3):
            with listener.accept()[0] as accepted:
                accepted.recv(1000)
                accepted.sendall(reply)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_once_each, args=(listener,))
        thread.start()
        connection = HttpConnection(Address("127.0.0.1", listener.getsockname()[1]))
        assert [connection.request("GET", "/key") for _ in range(3)] == [(200, b"ok")] * 3
        connection.close()
        thread.join()


@pytest.mark.parametrize(("file", "port"), [("nginx.conf", 8080), ("twemproxy.yaml", 11211)])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_proxy_gets_the_shipped_file_with_the_addresses_of_the_nodes_that_run(
    file: str, port: int, count: int
) -> None:
    shipped = (FILES / file).read_text()
    made = with_nodes(shipped, [Address("127.0.0.1", 4000 + number) for number in range(count)], port)
    assert f":{port}" not in made
    for number in range(3):
        assert made.count(f"127.0.0.1:{4000 + number}") == (shipped.count(f"node1:{port}") if number < count else 0)


def results() -> list[Result]:
    figures = figures_of([[part(0.0, [0.001, 0.002])]])
    operations = dict.fromkeys(("set", "get", "delete"), figures)
    return [Result("http", nodes, operations, figures) for nodes in (1, 2, 3)]


def test_the_table_has_a_row_for_each_number_of_nodes_and_says_what_was_left_out() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(table_of(results(), {"nginx": "nginx is not installed"}))
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "…" not in printed
    rows = [line.split() for line in printed.splitlines()]
    assert [row[-9:] for row in rows if row[-1:] == ["0"]] == [
        [str(nodes), "667", "667", "667", "667", "1.500", "1.000", "2.000", "0"] for nodes in (1, 2, 3)
    ]
    assert "nginx is not installed" in " ".join(printed.split())


def test_the_json_has_all_figures() -> None:
    read = json.loads(json_of(results(), {}, 4))
    assert [each["nodes"] for each in read["results"]] == [1, 2, 3]
    assert read["results"][0]["operations"]["delete"]["p99_ms"] == 2.0


@pytest.mark.long
def test_a_run_measures_every_way_whose_program_is_installed(tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    assert main(["--requests", "120", "--clients", "2", "--output", str(output)]) == 0
    found = json.loads(output.read_text())
    ways = [way for way, kind in WAYS.items() if not kind.program or find_program(kind.program)]
    assert [(each["way"], each["nodes"]) for each in found["results"]] == [(w, n) for w in ways for n in (1, 2, 3)]
    assert all(each["total"]["requests"] == 120 for each in found["results"])
    assert set(found["skipped"]) == set(WAYS) - set(ways)
