"""Load many small items, a UUID key with a 35-byte value each, and check them after a crash.

The keys come from a seed and each value from its key: `check` needs only the same --count and --seed.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from clients.requirements import what_to_install

try:
    from pymemcache.client.base import Client  # type: ignore[import-untyped]
    from pymemcache.exceptions import MemcacheError  # type: ignore[import-untyped]
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table
except ModuleNotFoundError as error:
    sys.exit(what_to_install(error))

from clients.address import Address, broke_off, cannot_connect, parse_address, reason_of
from clients.local_server import LocalServer, ServerStartError, default_command
from clients.rows import VALUE_BYTES, keys_from, value_of

KEYS_PER_GET = 100
REPLY_TIMEOUT_SECONDS = 60.0
STORED = b"STORED\r\n"
MEGABYTE = 1 << 20

SETTLE_SECONDS = 1.5
"""`--fsync everysec` promises the journal within a second; the demo waits this long before the kill."""

EXAMPLES = """\
examples:
  python clients/load_uuids.py store --server 127.0.0.1:11211 --count 1000000
  python clients/load_uuids.py check --server 127.0.0.1:11211 --count 1000000 --sample 10000
  python clients/load_uuids.py demo                   load a million, kill -9, restart, check"""


@dataclass
class Loaded:
    """Count the acknowledged items of a load, and keep the first reply that was no STORED."""

    acknowledged: int = 0
    seconds: float = 0.0
    refusal: str = ""


@dataclass
class Checked:
    """Count the sampled items by what was found."""

    equal: int = 0
    missing: int = 0
    different: int = 0

    @property
    def sampled(self) -> int:
        """Give the number of items looked at."""
        return self.equal + self.missing + self.different


def load(connection: socket.socket, keys: Iterator[str], batch: int, progress: Progress) -> Loaded:
    """Send the items in pipelined batches and count their acknowledgements; stop at a refusal."""
    loaded, started = Loaded(), time.monotonic()
    task = progress.add_task("loading", total=None)
    while batch_keys := list(itertools.islice(keys, batch)):
        connection.sendall(b"".join(_set_request(key) for key in batch_keys))
        replies = _receive_lines(connection, len(batch_keys))
        loaded.acknowledged += replies.count(STORED)
        progress.update(task, completed=loaded.acknowledged)
        if replies != STORED * len(batch_keys):
            loaded.refusal = _first_refusal(replies)
            break
    loaded.seconds = time.monotonic() - started
    return loaded


def _set_request(key: str) -> bytes:
    return b"set %b 0 0 %d\r\n%b\r\n" % (key.encode(), VALUE_BYTES, value_of(key))


def _receive_lines(connection: socket.socket, count: int) -> bytes:
    """Receive count reply lines; raise ConnectionError when the server hangs up before."""
    parts: list[bytes] = []
    while count > 0:
        part = connection.recv(MEGABYTE)
        if not part:
            raise ConnectionError("the server closed the connection in the middle of the load")
        parts.append(part)
        count -= part.count(b"\n")
    return b"".join(parts)


def _first_refusal(replies: bytes) -> str:
    refused = next((line for line in replies.splitlines() if line != b"STORED"), b"")
    return refused.decode("utf-8", "backslashreplace")


def check(address: Address, seed: int, count: int, sample: int) -> Checked:
    """Read a sample of the items through pymemcache and compare their values."""
    chosen = set(random.Random(seed + 1).sample(range(count), min(sample, count)))
    keys = (key for index, key in enumerate(keys_from(seed, count)) if index in chosen)
    checked = Checked()
    client = Client(address.for_pymemcache(), connect_timeout=5, timeout=REPLY_TIMEOUT_SECONDS)
    try:
        while group := list(itertools.islice(keys, KEYS_PER_GET)):
            found = client.get_many(group)
            checked.missing += sum(key not in found for key in group)
            checked.equal += sum(value == value_of(key) for key, value in found.items())
            checked.different += sum(value != value_of(key) for key, value in found.items())
    finally:
        client.close()
    return checked


def store(address: Address, options: argparse.Namespace, console: Console) -> Loaded:
    """Load all items into the server at the address."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        with address.connect(REPLY_TIMEOUT_SECONDS) as connection:
            return load(connection, keys_from(options.seed, options.count), options.batch, progress)


def run_store(options: argparse.Namespace, console: Console) -> bool:
    """Load into a running server and report the rate."""
    loaded = store(options.server, options, console)
    console.print(f"{loaded.acknowledged:,} items acknowledged in {loaded.seconds:.2f} s, {_rate(loaded)}")
    if loaded.refusal:
        console.print(f"refused with: {loaded.refusal}", markup=False)
    return not loaded.refusal


def run_check(options: argparse.Namespace, console: Console) -> bool:
    """Check a sample in a running server."""
    checked = check(options.server, options.seed, options.count, options.sample)
    console.print(_check_line(checked))
    if checked.missing:
        console.print(_about_missing(options.server), soft_wrap=True)
    return checked.equal == checked.sampled


def run_demo(options: argparse.Namespace, console: Console) -> bool:
    """Load a fresh server with a journal, kill it, restart it, check a sample and print the figures."""
    command = shlex.split(options.command) if options.command else default_command()
    with tempfile.TemporaryDirectory(prefix="load_uuids.") as journal:
        arguments = ["--journal", journal, "--fsync", options.fsync, "-m", str(options.memory)]
        with LocalServer(command, arguments) as server:
            loaded = store(server.address, options, console)
            time.sleep(SETTLE_SECONDS)
            resident_bytes = server.resident_bytes()
            server.kill()
        journal_bytes = _directory_bytes(Path(journal))
        with LocalServer(command, arguments) as server:
            [items] = _figures(server.address, b"curr_items")
            checked = check(server.address, options.seed, options.count, options.sample)
            rows = _demo_rows(loaded, journal_bytes, items, checked)
            if checked.missing:
                rows["missing"] = _about_missing(server.address)
            rows["memory before the crash"] = _megabytes(resident_bytes)
            rows["memory after the restart"] = _megabytes(server.resident_bytes())
            rows["start to first answer"] = f"{server.ready_seconds:.2f} s"
    _print_rows(rows, console)
    return checked.equal == checked.sampled and items == loaded.acknowledged == options.count


def _demo_rows(loaded: Loaded, journal_bytes: int, items: int, checked: Checked) -> dict[str, str]:
    rows = {
        "acknowledged": f"{loaded.acknowledged:,} items",
        "load": f"{loaded.seconds:.2f} s, {_rate(loaded)}",
        "journal": _megabytes(journal_bytes),
        "items after SIGKILL and restart": f"{items:,}",
        "sample": _check_line(checked),
    }
    return rows | ({"refused with": loaded.refusal} if loaded.refusal else {})


def _print_rows(rows: dict[str, str], console: Console) -> None:
    table = Table("", "", show_header=False)
    for name, figure in rows.items():
        table.add_row(name, figure)
    console.print(table)


def _figures(address: Address, *names: bytes) -> list[int]:
    """Ask a server for some of its statistics."""
    client = Client(address.for_pymemcache(), connect_timeout=5, timeout=REPLY_TIMEOUT_SECONDS)
    try:
        told = client.stats()
        return [int(told[name]) for name in names]
    finally:
        client.close()


def _about_missing(address: Address) -> str:
    """Say whether the server evicted items, and so what is to be done about those that are missing."""
    evictions, limit_bytes = _figures(address, b"evictions", b"limit_maxbytes")
    if not evictions:
        return "The server has evicted nothing since its start: the missing items were lost, deleted or never stored."
    limits = f"-m {limit_bytes // MEGABYTE} or --max-items"
    return f"The server has evicted {evictions:,} items since its start, to stay within {limits}: raise its limit."


def _directory_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _rate(loaded: Loaded) -> str:
    return f"{loaded.acknowledged / max(loaded.seconds, 1e-9):,.0f} items/s"


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / MEGABYTE:,.1f} MiB"


def _check_line(checked: Checked) -> str:
    wrong = f"{checked.missing:,} missing, {checked.different:,} different"
    return f"{checked.equal:,} of {checked.sampled:,} equal, {wrong}"


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="load_uuids.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="subcommand", required=True)
    store_parser = commands.add_parser("store", help="load the items")
    check_parser = commands.add_parser("check", help="compare a sample")
    demo_parser = commands.add_parser("demo", help="load, kill -9, restart, check")
    for command in (store_parser, check_parser, demo_parser):
        command.add_argument("--count", "-n", type=_positive, default=1_000_000, help="default 1000000 items")
        command.add_argument("--seed", type=int, default=1, help="where the keys come from (default 1)")
    for command in (store_parser, check_parser):
        command.add_argument("--server", type=parse_address, default=Address(), metavar="ADDRESS")
    for command in (store_parser, demo_parser):
        command.add_argument("--batch", type=_positive, default=1000, help="sets per send (default 1000)")
    for command in (check_parser, demo_parser):
        command.add_argument("--sample", type=_positive, default=10_000, help="items read (default 10000)")
    demo_parser.add_argument("--fsync", choices=("always", "everysec", "never"), default="everysec")
    demo_parser.add_argument("--memory", "-m", type=_positive, default=1024, help="its -m (default 1024)")
    demo_parser.add_argument("--command", help="the server's command (default: this Python's -m memcache_kv)")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return 0 when all was acknowledged, or all of the sample was equal."""
    options = parse_arguments(arguments)
    run = {"store": run_store, "check": run_check, "demo": run_demo}[options.subcommand]
    try:
        return 0 if run(options, Console()) else 1
    except ServerStartError as error:
        print(error, file=sys.stderr)
    except (OSError, MemcacheError) as error:
        if options.subcommand == "demo" or broke_off(error):
            print(f"the server broke off: {reason_of(error)}; look at what it logged", file=sys.stderr)
        else:
            print(cannot_connect(options.server, error), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
