"""The command line of the load tester."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clients.address import Address
from clients.load_test.keys import room_for
from clients.load_test.load import USERS_SECONDS, Load
from clients.load_test.wires import DEFAULT_PORTS
from clients.load_test.wires.wire import Wire

DEFAULT_HOST = "localhost"
DEFAULT_KEYS = 10_000
DEFAULT_ROWS = 1_000_000
LARGEST_TTL = (1 << 31) - 1

EXAMPLES = """\
examples:
  python -m clients.load_test                                     the line protocol, 100 connections, half of it stores
  python -m clients.load_test --protocol text --duration 10 --ratio 0.1 --output result.json --html result.html
  python -m clients.load_test --protocol text --rate 20000 --duration 30     a fixed rate
  python -m clients.load_test --users 1,10,100                    gets of a million rows over HTTP

exit status: 0 all targets are met; 1 one is missed (with --users: there were errors); 2 the command line is wrong;
3 the server can't be reached, or does not store a key. Targets: over 10,000 requests/s, mean under 1 ms, p99 under
5 ms, no errors, over 99 % of gets are hits."""


@dataclass(frozen=True)
class Options:
    """A load, and where its results go."""

    load: Load
    output: Path | None
    html: Path | None


def parse_arguments(arguments: Sequence[str] | None) -> Options:
    """Read the command line; end the program with status 2 if it is wrong."""
    parser = _parser()
    given = parser.parse_args(arguments)
    users = given.users or ()
    if users and given.connections is not None:
        parser.error("--users says how many connections there are; leave --connections out")
    protocol = given.protocol or ("http" if users else "line")
    load = Load(
        address=Address(given.host, given.port or DEFAULT_PORTS[protocol]),
        protocol=protocol,
        connections=max(users) if users else given.connections or 100,
        requests=given.requests or 1000,
        duration=given.duration or (USERS_SECONDS if users and given.requests is None else None),
        ratio=given.ratio if given.ratio is not None else 0.0 if users else 0.5,
        key_size=given.key_size,
        value_size=given.value_size,
        ttl=given.ttl,
        rate=given.rate,
        pipeline=given.pipeline,
        keys=given.keys or (DEFAULT_ROWS if users else DEFAULT_KEYS),
        key_distribution=given.key_distribution,
        processes=given.processes,
        users=users,
        rows=given.rows,
    )
    _check(parser, load, load.wire())
    return Options(load, given.output, given.html)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m clients.load_test",
        description="Send a load to a server, and hold what it does to targets.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_server_options(parser)
    _add_load_options(parser)
    _add_item_options(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all figures to this file, as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with charts to this file")
    return parser


def _add_server_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument("--host", default=DEFAULT_HOST, help=f"default {DEFAULT_HOST}")
    ports = ", ".join(f"{port} for {name}" for name, port in DEFAULT_PORTS.items())
    group.add_argument("--port", type=_whole(1, 65535), help=f"default {ports}")
    group.add_argument("--protocol", choices=DEFAULT_PORTS, help="default line; http with --users")


def _add_load_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("load")
    group.add_argument("--connections", type=_whole(1, 100_000), metavar="N", help="default 100")
    group.add_argument(
        "--requests", type=_whole(1, 1 << 40), metavar="N", help="requests of each connection; default 1000"
    )
    group.add_argument("--duration", type=_number, metavar="SECONDS", help="send for so long, instead of --requests")
    group.add_argument(
        "--rate",
        type=_number,
        metavar="N",
        help="requests a second of all connections; latencies count from when one is due",
    )
    group.add_argument(
        "--pipeline", type=_whole(1, 10_000), default=1, metavar="N", help="in flight on each; default 1"
    )
    group.add_argument("--processes", type=_whole(1, 1000), default=1, metavar="N", help="that send; default 1")
    group.add_argument(
        "--users",
        type=_user_counts,
        metavar="N,N",
        help="measure gets of stored rows with each of these numbers of users",
    )


def _add_item_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("items")
    group.add_argument("--ratio", type=_share, help="the share of requests that store; default 0.5, with --users 0")
    group.add_argument(
        "--keys", type=_whole(1, 100_000_000), metavar="N",
        help=f"how many keys there are, all stored first; default {DEFAULT_KEYS}, with --users {DEFAULT_ROWS}",
    )  # fmt: skip
    group.add_argument("--key-distribution", choices=("uniform", "zipf"), default="uniform", help="default uniform")
    group.add_argument("--key-size", type=_whole(1, 1 << 20), default=16, metavar="BYTES", help="default 16")
    group.add_argument("--value-size", type=_whole(1, 1 << 30), default=64, metavar="BYTES", help="default 64")
    group.add_argument("--ttl", type=_whole(0, LARGEST_TTL), default=0, metavar="SECONDS", help="default 0, for ever")
    group.add_argument(
        "--rows", type=Path, metavar="FILE", help="take the keys from this data file, whose rows the server has already"
    )


def _check(parser: argparse.ArgumentParser, load: Load, wire: Wire) -> None:
    """End the program where options do not fit together."""
    if load.key_size > wire.longest_key:
        parser.error(f"--key-size: the {load.protocol} protocol has keys of up to {wire.longest_key} bytes")
    if load.value_size > wire.longest_value:
        parser.error(f"--value-size: the {load.protocol} protocol has values of up to {wire.longest_value} bytes")
    if not load.users and load.keys > room_for(load.key_size):
        parser.error(f"--keys: there are {room_for(load.key_size)} keys of {load.key_size} bytes")
    if load.rows is not None and not load.rows.is_file():
        parser.error(f"--rows: there is no file {load.rows}")
    if min((load.connections, *load.users)) < load.processes:
        parser.error("--processes: each process needs a connection; use fewer processes")


def _whole(least: int, most: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return int(text)

    return convert


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def _share(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return number


def _user_counts(text: str) -> tuple[int, ...]:
    return tuple(map(_whole(1, 100_000), text.split(",")))
