"""Store a real tree of files in a server under their paths, and verify every byte, flag and expiry.

The key of a file is its path below the tree's root, with every byte outside printable ASCII, white space and
`%` percent-encoded (memcached's keys hold no white space). A key longer than memcached's 250 bytes becomes
`sha256:` + the hash of that encoded path + `:` + as much of the path's end as fits.

Client flags: the lowest two bits tell the kind (1 = valid UTF-8 text, 2 = binary), the other 30 bits are
those of the content's crc32, so a flag that is lost or mixed up shows.

Expiry: the classic protocol does not tell an item's time to live, so it is checked by its effect. By the
crc32 of its key a file has no expiry, one a year away, or one a few seconds after the storing. `verify` reads
those last ones before that moment, if it is still to come, waits for it, and then exactly they must be gone.

Symbolic links to directories, `site-packages`, `dist-packages` and `__pycache__` (which a running Python
rewrites) are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shlex
import sys
import sysconfig
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from urllib.parse import quote_from_bytes

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from clients.requirements import what_to_install

try:
    from pymemcache.client.base import Client  # type: ignore[import-untyped]
    from pymemcache.exceptions import MemcacheError  # type: ignore[import-untyped]
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table
except ModuleNotFoundError as error:
    sys.exit(what_to_install(error))

from clients.address import Address, broke_off, cannot_connect, parse_address, reason_of
from clients.local_server import LocalServer, ServerStartError, default_command

Files = list[tuple[str, Path]]
"""The files of a tree: the key and the path of each."""

KEY_LIMIT_BYTES = 250
LEFT_OUT = frozenset({"site-packages", "dist-packages", "__pycache__"})
RECORD_KEY = "store_tree:record"
YEAR_SECONDS = 365 * 86400
CLOCK_SLACK_SECONDS = 2.5
"""Servers count expiry on a one-second clock; verify waits this much longer than the moment itself."""

REPORTED_DIFFERENCES = 20
MEGABYTE = 1 << 20
TEXT, BINARY = 1, 2

EXAMPLES = """\
examples:
  python clients/store_tree.py store --server 127.0.0.1:11211
  python clients/store_tree.py verify --server 127.0.0.1:11211
  python clients/store_tree.py demo                 store, kill -9, restart on the same journal, verify
  python clients/store_tree.py demo --tree /usr/share/doc"""


class Expiry(Enum):
    """Say how long a file lives in the server."""

    NEVER = "never"
    YEAR = "in a year"
    SOON = "soon"


class RawValues:
    """Hand pymemcache bytes as they are, and give (bytes, flags) back."""

    def serialize(self, key: bytes | str, value: bytes) -> tuple[bytes, int]:
        """Return the value with no flags of our own."""
        return value, 0

    def deserialize(self, key: bytes | str, value: bytes, flags: int) -> tuple[bytes, int]:
        """Return the value beside its flags."""
        return value, flags


@dataclass
class Outcome:
    """Count what was stored or compared, and collect what went wrong."""

    files: int = 0
    content_bytes: int = 0
    seen_before_expiry: int = 0
    expired: int = 0
    seconds: float = 0.0
    differences: list[str] = field(default_factory=list)


def key_of(relative_path: bytes) -> str:
    """Give the key of a path: percent-encoded, and hashed when that is too long."""
    encoded = quote_from_bytes(relative_path, safe="/!\"#$&'()*+,:;<=>?@[\\]^`{|}")
    if len(encoded) <= KEY_LIMIT_BYTES:
        return encoded
    head = f"sha256:{hashlib.sha256(encoded.encode()).hexdigest()}:"
    return head + encoded[len(head) - KEY_LIMIT_BYTES :]


def flags_of(content: bytes) -> int:
    """Give the client flags of a content: kind in the lowest two bits, crc32 in the others."""
    try:
        content.decode("utf-8")
        kind = TEXT
    except UnicodeDecodeError:
        kind = BINARY
    return (zlib.crc32(content) & 0xFFFFFFFC) | kind


def expiry_of(key: str) -> Expiry:
    """Choose the expiry of a key: a third lives a year, a twentieth ends soon, the others never end."""
    number = zlib.crc32(key.encode())
    if number % 20 == 7:
        return Expiry.SOON
    return Expiry.YEAR if number % 3 == 0 else Expiry.NEVER


def files_below(root: Path) -> Files:
    """List (key, path) of every regular file below root that can be read, in a fixed order."""
    return sorted(_walk(root))


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if name not in LEFT_OUT]
        for name in files:
            path = Path(directory, name)
            if path.is_file() and os.access(path, os.R_OK):
                yield key_of(os.fsencode(path.relative_to(root))), path


def open_client(address: Address) -> Client:
    """Make a client that keeps flags and waits for every reply; raise OSError when nobody answers."""
    client = Client(
        address.for_pymemcache(),
        serde=RawValues(),
        connect_timeout=5,
        timeout=60,
        no_delay=not address.path,
        default_noreply=False,
    )
    client.version()
    return client


def store_tree(client: Client, root: Path, soon_seconds: int, console: Console) -> Outcome:
    """Store every file below root, the short-lived ones last, and a record of when those expire."""
    outcome, started = Outcome(), time.monotonic()
    short_lived, lasting = _by_life(files_below(root))
    for key, path in _shown(lasting, "storing", console):
        expire = int(time.time()) + YEAR_SECONDS if expiry_of(key) is Expiry.YEAR else 0
        _store(client, key, path.read_bytes(), expire, outcome)
    expires_at = math.ceil(time.time()) + soon_seconds
    for key, path in short_lived:
        _store(client, key, path.read_bytes(), expires_at, outcome)
    client.set(RECORD_KEY, json.dumps({"root": str(root), "expires_at": expires_at}).encode())
    outcome.seconds = time.monotonic() - started
    return outcome


def _by_life(files: Files) -> tuple[Files, Files]:
    """Split files into those that expire soon and the others."""
    soon = [file for file in files if expiry_of(file[0]) is Expiry.SOON]
    return soon, [file for file in files if expiry_of(file[0]) is not Expiry.SOON]


def _store(client: Client, key: str, content: bytes, expire: int, outcome: Outcome) -> None:
    """Store one file and count it, or note what went wrong."""
    try:
        stored = client.set(key, content, expire=expire, flags=flags_of(content))
    except MemcacheError as error:
        hint = f"{len(content)} bytes; start the server with a larger -I or -m"
        outcome.differences.append(f"{key}: {reason_of(error)} ({hint})")
        return
    if not stored:
        outcome.differences.append(f"{key}: NOT_STORED")
        return
    outcome.files += 1
    outcome.content_bytes += len(content)


def verify_tree(client: Client, root: Path, console: Console) -> Outcome:
    """Read the short-lived files while they live, wait until they expire, then compare all."""
    record = client.get(RECORD_KEY)
    if record is None:
        return Outcome(differences=["nothing is stored there: run `store` first"])
    outcome, started = Outcome(), time.monotonic()
    expires_at = float(json.loads(record[0])["expires_at"])
    short_lived, lasting = _by_life(files_below(root))
    _compare_short_lived(client, short_lived, expires_at, outcome)
    for key, path in _shown(lasting, "verifying", console):
        problem = _difference(client.get(key), path.read_bytes())
        if problem:
            outcome.differences.append(f"{key}: {problem}")
        else:
            outcome.files += 1
            outcome.content_bytes += path.stat().st_size
    outcome.seconds = time.monotonic() - started
    _wait_for(expires_at + CLOCK_SLACK_SECONDS, console)
    for key, _ in short_lived:
        if client.get(key) is None:
            outcome.expired += 1
        else:
            outcome.differences.append(f"{key}: still there after its expiry")
    return outcome


def _compare_short_lived(client: Client, files: Files, expires_at: float, outcome: Outcome) -> None:
    """Compare the files that are to expire, as long as they surely live."""
    for key, path in files:
        if time.time() > expires_at - CLOCK_SLACK_SECONDS:
            return
        problem = _difference(client.get(key), path.read_bytes())
        if problem:
            outcome.differences.append(f"{key}: {problem} before its expiry")
        else:
            outcome.seen_before_expiry += 1


def _difference(found: tuple[bytes, int] | None, content: bytes) -> str:
    """Say how an answer differs from the file: presence, bytes or flags; nothing when equal."""
    if found is None:
        return "missing"
    if found[0] != content:
        return f"its {len(found[0])} bytes differ from the file's {len(content)}"
    if found[1] != flags_of(content):
        return f"flags {found[1]}, stored with {flags_of(content)}"
    return ""


def _wait_for(moment: float, console: Console) -> None:
    seconds = moment - time.time()
    if seconds > 0:
        console.print(f"waiting {seconds:.1f} s for the short-lived files to expire")
        time.sleep(seconds)


def _shown(files: Files, description: str, console: Console) -> Iterator[tuple[str, Path]]:
    """Walk the files behind a progress bar; no bar when the output is no terminal."""
    yield from track(files, description, console=console, disable=not console.is_terminal)


def size_arguments(root: Path) -> list[str]:
    """Choose -I from the largest file and -m from the whole tree, so that nothing is refused or evicted."""
    sizes = [path.stat().st_size for _, path in files_below(root)]
    item_megabytes = max(1, math.ceil((max(sizes, default=0) + 4096) / MEGABYTE))
    memory_megabytes = max(64, math.ceil(sum(sizes) * 1.5 / MEGABYTE) + 64, item_megabytes * 4)
    return ["-I", f"{item_megabytes}m", "-m", str(memory_megabytes)]


def run_demo(options: argparse.Namespace, console: Console) -> bool:
    """Store into a fresh server, kill it with SIGKILL, restart it on its journal and verify."""
    command = shlex.split(options.command) if options.command else default_command()
    with tempfile.TemporaryDirectory(prefix="store_tree.") as journal:
        arguments = ["--journal", journal, "--fsync", options.fsync, *size_arguments(options.tree)]
        with LocalServer(command, arguments) as server:
            client = open_client(server.address)
            stored = store_tree(client, options.tree, options.soon, console)
            client.close()
            server.kill()
        with LocalServer(command, arguments) as server:
            console.print(f"killed with SIGKILL; ready again {server.ready_seconds:.2f} s after the restart")
            client = open_client(server.address)
            verified = verify_tree(client, options.tree, console)
            client.close()
    equal = report({"stored": stored, "verified": verified}, console)
    return _verdict(stored, verified, equal, console)


def _verdict(stored: Outcome, verified: Outcome, equal: bool, console: Console) -> bool:
    """Say whether the demo found all that was stored, the short-lived files before and after their expiry."""
    in_time = verified.seen_before_expiry == verified.expired
    whole = stored.files == verified.files + verified.expired
    if equal and whole and not in_time:
        console.print("the restart took longer than the short-lived files lived; give a larger --soon")
        return False
    console.print("all equal" if equal and whole else "NOT EQUAL: see the differences above")
    return equal and whole


def report(outcomes: dict[str, Outcome], console: Console) -> bool:
    """Print the counts and the first differences; return whether there are none."""
    table = Table("", "files", "bytes", "short-lived seen", "then expired", "seconds", "differences")
    for name, outcome in outcomes.items():
        table.add_row(
            name,
            f"{outcome.files:,}",
            f"{outcome.content_bytes:,}",
            f"{outcome.seen_before_expiry:,}" if name == "verified" else "",
            f"{outcome.expired:,}" if name == "verified" else "",
            f"{outcome.seconds:.2f}",
            str(len(outcome.differences)),
        )
    console.print(table)
    differences = [line for outcome in outcomes.values() for line in outcome.differences]
    for line in differences[:REPORTED_DIFFERENCES]:
        console.print(line, markup=False, highlight=False)
    return not differences


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="store_tree.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="subcommand", required=True)
    common = argparse.ArgumentParser(add_help=False)
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    common.add_argument("--tree", type=_tree, default=stdlib, help="the files (default: Python's library)")
    store = commands.add_parser("store", parents=[common], help="store every file")
    verify = commands.add_parser("verify", parents=[common], help="read all back and compare")
    demo = commands.add_parser("demo", parents=[common], help="store, kill -9, restart, verify")
    for command in (store, verify):
        command.add_argument("--server", type=parse_address, default=Address(), metavar="ADDRESS")
    for command in (store, demo):
        command.add_argument(
            "--soon",
            type=int,
            default=15,
            metavar="SECONDS",
            help="life of the short-lived files (default 15)",
        )
    demo.add_argument("--fsync", choices=("always", "everysec", "never"), default="always")
    demo.add_argument("--command", help="the server's command (default: this Python's -m memcache_kv)")
    return parser.parse_args(arguments)


def _tree(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no directory; name one whose files can be read")
    return path.resolve()


def run(options: argparse.Namespace, console: Console) -> bool:
    """Run one subcommand; return whether everything was equal."""
    if options.subcommand == "demo":
        return run_demo(options, console)
    client = open_client(options.server)
    try:
        if options.subcommand == "store":
            return report({"stored": store_tree(client, options.tree, options.soon, console)}, console)
        return report({"verified": verify_tree(client, options.tree, console)}, console)
    finally:
        client.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return 0 when all was stored, or all was equal."""
    options = parse_arguments(arguments)
    try:
        return 0 if run(options, Console()) else 1
    except ServerStartError as error:
        print(error, file=sys.stderr)
    except (OSError, MemcacheError) as error:
        if options.subcommand == "demo" or broke_off(error):
            print(f"the server broke off: {reason_of(error)}; look at what it logged", file=sys.stderr)
        elif error.filename is not None:
            print(f"cannot read {error.filename}: {error.strerror}; leave it out or fix it", file=sys.stderr)
        else:
            print(cannot_connect(options.server, error), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
