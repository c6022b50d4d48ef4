"""The command line of the load tester: its defaults, and what it rejects."""

from pathlib import Path

import pytest

from clients.address import Address
from clients.load_test.load import Load
from clients.load_test.options import parse_arguments


def load_of(*arguments: str) -> Load:
    return parse_arguments(list(arguments)).load


def test_defaults() -> None:
    load = load_of()
    assert load == Load(Address("localhost", 7171))
    assert (load.protocol, load.connections, load.requests, load.ratio) == ("line", 100, 1000, 0.5)
    assert (load.key_size, load.value_size, load.ttl, load.rate, load.duration) == (16, 64, 0, None, None)
    options = parse_arguments([])
    assert (options.output, options.html) == (None, None)


@pytest.mark.parametrize(("protocol", "port"), [("text", 11211), ("meta", 11211), ("binary", 11211), ("http", 8080)])
def test_each_protocol_has_its_port(protocol: str, port: int) -> None:
    assert load_of("--protocol", protocol).address.port == port
    assert load_of("--protocol", protocol, "--port", "99").address.port == 99


def test_users_read_a_million_rows_over_http() -> None:
    load = load_of("--users", "1,10,100")
    assert (load.users, load.protocol, load.address.port, load.ratio) == ((1, 10, 100), "http", 8080, 0.0)
    assert (load.keys, load.duration, load.connections) == (1_000_000, 10.0, 100)
    assert load_of("--users", "1", "--requests", "5").duration is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "0"], ["--port", "70000"], ["--connections", "0"], ["--requests", "x"], ["--ratio", "1.1"],
        ["--ratio", "x"], ["--ratio", "nan"], ["--rate", "0"], ["--rate", "x"], ["--duration", "-1"],
        ["--duration", "nan"],
        ["--key-size", "257"], ["--protocol", "text", "--key-size", "251"], ["--value-size", "257"],
        ["--ttl", "2147483648"], ["--protocol", "redis"], ["--key-distribution", "normal"], ["--users", "1,x"],
        ["--users", "1", "--connections", "5"], ["--key-size", "1", "--keys", "37"], ["--rows", "/nowhere/rows"],
        ["--connections", "2", "--processes", "3"], ["--users", "1,10", "--processes", "2"], ["--nonsense"],
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_rejected(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        parse_arguments(arguments)
    assert raised.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_results_go_to_files() -> None:
    options = parse_arguments(["--output", "a.json", "--html", "a.html"])
    assert (options.output, options.html) == (Path("a.json"), Path("a.html"))
