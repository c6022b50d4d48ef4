"""`memcache-kv replay`: ask another server what a recording has, and show where it answers differently."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from memcache_kv.errors import ListenError, MemcacheKVError
from memcache_kv.observe.log import Log, printable
from memcache_kv.progress import show_progress
from memcache_kv.server.health import Address, read_address
from memcache_kv.traffic.recording import Recording
from memcache_kv.traffic.replaying import Deviation, Replaying, ReplayTally
from memcache_kv.traffic.showing import deviation_lines
from memcache_kv.traffic.target import ANSWER_TIMEOUT_SECONDS

REPLAY_PROGRAM = "memcache-kv replay"
ALIKE, DIFFERENT, NO_REPLAY, STOPPED_BY_HAND = 0, 1, 3, 130
SHOWN_DIFFERENCES = 20
REPLAY_EPILOG = """The other server should be as empty as the recorded one was at the beginning. Its items are changed.
CAS ids, seconds until an item expires, statistics, versions and dumps may differ as servers do. All other bytes of the
replies have to be the same.

exit status:
  0    every reply is the same
  1    there are differences
  2    the command line is invalid
  3    the recording can't be read, or the server can't be reached
  130  interrupted"""


def main(arguments: Sequence[str]) -> int:
    """Replay a recording, and return the exit status, which `--help` describes.

    arguments: the command line without the program's name and `replay`. Raises SystemExit if it is invalid.
    """
    options = _make_parser().parse_args(arguments)
    try:
        return _replay(options)
    except MemcacheKVError as error:
        return _complain(str(error), NO_REPLAY)
    except BrokenPipeError:  # nobody reads the differences
        return DIFFERENT
    except OSError as error:
        return _complain(f"{options.file}: {error.strerror or error}", NO_REPLAY)
    except KeyboardInterrupt:
        return _complain("interrupted", STOPPED_BY_HAND)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=REPLAY_PROGRAM,
        allow_abbrev=False,
        description="Send the requests of a recording to another server, in their order and on as many connections, "
        "and show the replies that differ from the recorded ones.",
        epilog=REPLAY_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="the recording")
    parser.add_argument(
        "--against",
        metavar="ADDR",
        type=_address,
        required=True,
        help="the other server: HOST, HOST:PORT, [IPV6]:PORT or the path of a unix socket",
    )
    parser.add_argument(
        "--keep-pace",
        action="store_true",
        help="ask nothing earlier than it was asked in the recording: for items that expire in between (default: ask "
        "as fast as the server answers)",
    )
    parser.add_argument(
        "--show",
        type=_count,
        default=SHOWN_DIFFERENCES,
        metavar="N",
        help="how many differences to show; all are counted (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=_timeout,
        default=ANSWER_TIMEOUT_SECONDS,
        metavar="SECONDS",
        help="how long to wait for each answer (default: %(default)g)",
    )
    return parser


def _address(text: str) -> Address:
    try:
        return read_address(text)
    except ListenError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address") from None


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)


def _timeout(text: str) -> float:
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text, re.ASCII) or not float(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return float(text)


def _replay(options: argparse.Namespace) -> int:
    recording = Recording(options.file)
    if recording.is_cut_off:
        _complain(f"{options.file}: the last line is not complete, and is left out", ALIKE)
    shown = 0

    def show(deviation: Deviation) -> None:
        nonlocal shown
        shown += 1
        if shown <= options.show:
            print(*deviation_lines(deviation, shown), "", sep="\n")

    name = Path(printable(options.file.name))
    with show_progress(Log(), name, "replaying", "requests") as progress:
        with Replaying(recording, options.against, options.keep_pace, options.timeout) as replaying:
            tally = replaying.run(show, lambda done: progress(done, len(recording), done))
    print(*_summary(recording, tally), sep="\n")
    return DIFFERENT if tally.different else ALIKE


def _summary(recording: Recording, tally: ReplayTally) -> Iterator[str]:
    asked = _counted(len(recording), "request")
    connections = _counted(len(recording.calls_by_connection), "connection")
    yield f"{asked} on {connections}: {tally.alike:,} answered alike, {tally.different:,} differently"
    for reason, count in sorted(tally.not_compared.items()):
        yield f"not compared: {count:,} ({reason})"
    if tally.different:
        yield "items that the server had before, and items that expired meanwhile, cause differences: see --keep-pace"


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' * (number != 1)}"


def _complain(text: str, status: int) -> int:
    sys.stdout.flush()
    print(f"{REPLAY_PROGRAM}: {text}", file=sys.stderr)
    return status
