"""`memcache-kv journal …`: the command line of the journal tools."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from memcache_kv.clock import Clock
from memcache_kv.config.settings import DEFAULT_KEEP, Fsync
from memcache_kv.datafile.source import open_data
from memcache_kv.errors import JournalError, JournalLocked, MemcacheKVError
from memcache_kv.journal.compaction import Compaction
from memcache_kv.journal.directory import LOCK_NAME, JournalDirectory
from memcache_kv.journal.manifest import MANIFEST_NAME, Manifest, number_of
from memcache_kv.journal.ownership import disk_for
from memcache_kv.journal.recovery import Progress, survey
from memcache_kv.journal.tools.division import DividedItems, DividedJournal
from memcache_kv.journal.tools.export import export_lines, output_file
from memcache_kv.journal.tools.hard_links import link_journal
from memcache_kv.journal.tools.load import Loaded, Source, exported_items, load, text_items
from memcache_kv.journal.tools.memcached_source import MemcachedSource
from memcache_kv.journal.tools.repair import Plan, carry_out, make_plan
from memcache_kv.journal.tools.report import (
    print_rewound,
    print_statistics,
    print_verification,
    say,
    statistics_as_json,
    verification_as_json,
)
from memcache_kv.journal.tools.restore import Rewinding, local_time
from memcache_kv.journal.tools.snapshot import Snapshot, present_manifest, take_snapshot
from memcache_kv.journal.tools.statistics import statistics
from memcache_kv.journal.tools.verify import has_parts, verify
from memcache_kv.journal.writer import Journal
from memcache_kv.observe.log import Log, printable
from memcache_kv.progress import show_progress

PROGRAM = "memcache-kv journal"
OK, FAILED, WRONG_USAGE, IN_USE, INTERRUPTED = 0, 1, 2, 3, 130
MAX_LOSS_BYTES = 1 << 20
OWN_NAMES = (MANIFEST_NAME, LOCK_NAME)
NOTHING_CHANGED = "nothing was changed; add --yes to do it"
JOURNAL_DESCRIPTION = "Check, repair, export and restore the journals that `memcache-kv --journal DIR` writes."
JOURNAL_EPILOG = """exit status:
  0    success
  1    damage was found, the command failed, or it needs --yes
  2    the command line is invalid
  3    a server uses the journal; stop it first
  130  interrupted; the journal is unchanged

verify, stats, export and snapshot only read, and may run while a server writes the journal. Stop the server before the
others.
All need little memory. Of a journal above 16 MB, stats, export, restore and compact make temporary files as long as
the journal, in the directory that TMPDIR names (default: /tmp)."""


def main(arguments: Sequence[str]) -> int:
    """Run one command, and return the exit status.

    arguments: the command line without the program's name and `journal`. Raises SystemExit if it is invalid.
    """
    options = make_parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except JournalLocked:
        return _complain(f"a server uses the journal in {options.directory}: stop it first", IN_USE)
    except MemcacheKVError as error:
        return _complain(str(error), FAILED)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (the reader has gone; without this, the flush at exit would fail too)
        return FAILED
    except OSError as error:
        return _complain(f"{options.directory}: {error}; the journal is unchanged", FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted; the journal is unchanged", INTERRUPTED)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser for all commands."""
    parser = argparse.ArgumentParser(
        PROGRAM,
        description=JOURNAL_DESCRIPTION,
        epilog=JOURNAL_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=JOURNAL_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("directory", metavar="DIR", type=Path, help="the journal's directory")
        command.set_defaults(run=run)
        return command

    _add_json(add("verify", run_verify, "check every record, and list every damaged place"))
    command = add("stats", run_stats, "count records, files, runs and live items")
    _add_json(command)
    command.add_argument("--delimiter", default=":", help="the text that ends a key's prefix (default: %(default)s)")
    command.add_argument(
        "--top", type=int, default=10, metavar="N", help="how many prefixes to show (default: %(default)s)"
    )
    _add_repairs(
        add(
            "repair",
            run_repair,
            "cut out damage and keep all intact records; without --yes only show what would be done",
        )
    )
    command = add("compact", run_compact, "rewrite the journal so that it holds only the live items")
    command.add_argument(
        "--keep", type=parse_count, default=DEFAULT_KEEP, metavar="N",
        help="how many generations of its files to keep for `restore` (default: %(default)s)",
    )  # fmt: skip
    command = add("export", run_export, "write all live items, one JSON object per line")
    command.add_argument("--output", metavar="FILE", type=Path, help="write to this file (default: standard output)")
    command = add("snapshot", run_snapshot, "copy the journal as it is now into another directory, by hard links")
    command.add_argument(
        "target", metavar="TARGET", type=Path, help="the directory to make; it may exist if it is empty"
    )
    _add_sources(add("load", run_load, "add items to a journal, or create one; if it fails, nothing is added"))
    command = add("restore", run_restore, "return to an earlier state; without --yes only show what would change")
    command.add_argument(
        "--until", required=True, type=parse_time, metavar="TIME",
        help="the last second to keep: unix time, or 2026-01-31T12:00:00, local unless it ends with Z or +HH:MM",
    )  # fmt: skip
    command.add_argument("--yes", action="store_true", help="restore the journal")
    return parser


def _add_repairs(command: argparse.ArgumentParser) -> None:
    command.add_argument("--yes", action="store_true", help="repair the journal")
    command.add_argument(
        "--cut-at-first-damage",
        action="store_true",
        help="keep everything before the first damage and nothing behind it, instead of every intact record",
    )
    command.add_argument(
        "--max-loss", type=parse_loss, default=MAX_LOSS_BYTES, metavar="BYTES",
        help="do nothing if more bytes would be lost; `any` allows even an unknown loss (default: %(default)s)",
    )  # fmt: skip


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _add_sources(command: argparse.ArgumentParser) -> None:
    sources = command.add_mutually_exclusive_group(required=True)
    sources.add_argument("--export", metavar="FILE", help="the output of `journal export`; - is standard input")
    sources.add_argument("--text", metavar="FILE", help="lines with a key, a space and the value; - is standard input")
    sources.add_argument("--memcached", metavar="HOST:PORT", help="the address of a running memcached or memcache-kv")


def parse_time(text: str) -> int:
    """Parse a unix time or an ISO 8601 time, without fractions of a second. Raises ArgumentTypeError."""
    try:
        is_unix_time = text.isascii() and text.isdigit()
        at = int(text) if is_unix_time else int(datetime.fromisoformat(text).timestamp())  # without a zone: local
        datetime.fromtimestamp(at).astimezone()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a unix time nor a time like 2026-01-31T12:00:00"
        ) from None
    return at


def parse_count(text: str) -> int:
    """Parse a number from 0 on. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return int(text)


def parse_loss(text: str) -> int | None:
    """Parse the number of bytes that may be lost; None stands for any number. Raises ArgumentTypeError."""
    if text == "any":
        return None
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of bytes nor `any`")
    return int(text)


# Commands


def run_verify(options: argparse.Namespace) -> int:
    """Check a journal, and return the exit status."""
    with _progress(options, "checking") as progress:
        found = verify(options.directory, progress)
    if options.json:
        _print_json(verification_as_json(found))
    else:
        print_verification(found)
    return OK if found.is_sound and not found.kept_damages else FAILED


def run_stats(options: argparse.Namespace) -> int:
    """Print a journal's statistics, and return the exit status."""
    if not options.delimiter:
        return _complain("--delimiter needs at least one character", WRONG_USAGE)
    with _progress(options, "reading") as progress:
        found = statistics(options.directory, options.delimiter.encode(), options.top, progress)
    if options.json:
        _print_json(statistics_as_json(found))
    else:
        print_statistics(found)
    return OK


def run_repair(options: argparse.Namespace) -> int:
    """Repair a journal, or print what would be done, and return the exit status."""
    if not has_parts(options.directory):
        raise JournalError(
            f"there is no file of a journal in {options.directory}: name the directory that --journal was given"
        )
    with _locked(options.directory) as directory:
        with _progress(options, "checking") as progress:
            found = verify(options.directory, progress)
        plan = make_plan(found, options.cut_at_first_damage)
        if not plan.steps:
            say("there is nothing to repair")
            return OK
        for step in plan.steps:
            say(step)
        _say_what_is_lost(plan)
        if options.max_loss is not None and (plan.is_loss_unknown or plan.lost_bytes > options.max_loss):
            allowed, verb = ("any", "may be") if plan.is_loss_unknown else (plan.lost_bytes, "is")
            hint = f"restore the files from a copy, or allow the loss with --max-loss {allowed}"
            return _complain(f"that {verb} more than --max-loss {options.max_loss} allows: {hint}", FAILED)
        if not options.yes:
            return _complain(NOTHING_CHANGED, FAILED)
        with _progress(options, "repairing") as progress:
            repaired = carry_out(plan, found, directory, progress)
    for cut in repaired.cuts:
        say(f"the bytes that were cut out are in {cut}")
    say(f"repaired; the original files are in {repaired.originals}")
    return OK


def _say_what_is_lost(plan: Plan) -> None:
    more = " and the missing files, whose length is unknown," if plan.is_loss_unknown else ""
    say(f"{plan.lost_bytes:,} bytes{more} are lost; {plan.kept_records:,} records are kept")


def run_compact(options: argparse.Namespace) -> int:
    """Rewrite a journal, and return the exit status."""
    with _stopped_journal(options.directory) as directory:
        manifest = directory.open() or present_manifest(options.directory)
        _say_notes(directory)
        with _progress(options, "checking") as progress:
            found = survey(directory.path, directory.disk, manifest, Clock().now, progress)
        with _divided(directory.path, found.manifest or manifest, options) as divided:
            journal = Journal(
                directory,
                Fsync.NEVER,
                found.manifest,
                found.next_run(),
                room=found.room,
                stepped=found.stepped,
                say=say,
                keep=options.keep,
            )
            before = journal.files.total_bytes
            with _progress(options, "compacting", "items") as progress:
                work = Compaction(journal, DividedItems(divided, progress))
                try:
                    for _ in work.steps():
                        pass
                finally:
                    work.discard()
                    journal.close()
    after = journal.files.total_bytes
    kept = f"; {journal.files.kept_bytes:,} bytes of what was before are kept" if journal.files.kept else ""
    say(f"{work.items:,} items: {before:,} bytes before, {after:,} now{kept}")
    return OK


def _divided(directory: Path, manifest: Manifest, options: argparse.Namespace) -> DividedJournal:
    with Snapshot(directory, manifest) as snapshot, _progress(options, "reading") as progress:
        return DividedJournal(snapshot, progress=progress)


def run_export(options: argparse.Namespace) -> int:
    """Write all items as JSON, and return the exit status."""
    with _progress(options, "reading") as progress, take_snapshot(options.directory) as snapshot:
        divided = DividedJournal(snapshot, progress=progress)
    with divided, _output(options) as file, _progress(options, "exporting", "items") as progress:
        for number, line in enumerate(export_lines(divided.items()), 1):
            file.write(line)
            if not number % 1000:
                progress(divided.shares_read, divided.shares, number)
    return OK


@contextlib.contextmanager
def _output(options: argparse.Namespace) -> Iterator[BinaryIO]:
    """Open the output file, or standard output, which may be given as /dev/stdout. Raises JournalError."""
    path: Path | None = options.output
    if path is None or _is_standard_output(path):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if _is_of_journal(options.directory, path):
        raise JournalError(f"{path} is a file of the journal: give --output another path")
    with output_file(path) as file:
        yield file


def _is_of_journal(directory: Path, path: Path) -> bool:
    where, name = os.path.split(os.path.realpath(path))
    return where == os.path.realpath(directory) and (number_of(name) > 0 or name in OWN_NAMES)


def _is_standard_output(path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):
        return False


def run_snapshot(options: argparse.Namespace) -> int:
    """Copy a journal by hard links, and return the exit status."""
    made = link_journal(options.directory, options.target, disk_for(options.directory))
    say(f"{options.target}: {made.linked:,} files linked, {made.linked_bytes:,} bytes; {made.copied_bytes:,} copied")
    if made.unlinkable:
        _complain(
            f"{made.unlinkable:,} closed files had to be copied: {options.target} is on another file system, or hard "
            "links are not allowed there",
            OK,
        )
    return OK


def run_load(options: argparse.Namespace) -> int:
    """Add items to a journal, and return the exit status."""
    with contextlib.ExitStack() as undo:
        loading = undo.enter_context(_progress(options, "loading into", "items"))
        source, show, memcached = _source(options, undo, loading)
        directory = undo.enter_context(_locked(options.directory))
        try:
            loaded = load(directory, source, reading=loading, loading=show)
        finally:
            _say_notes(directory)
    say(f"loaded {loaded.items:,} items, {loaded.bytes:,} bytes of keys and values")
    if loaded.expired:
        say(f"{loaded.expired:,} items had expired and were not loaded")
    if memcached is not None and memcached.gone:
        say(f"{memcached.gone:,} items were removed before they were fetched")
    return _report_rejected(loaded)


def _source(
    options: argparse.Namespace, undo: contextlib.ExitStack, loading: Progress
) -> tuple[Source, Progress | None, MemcachedSource | None]:
    """Return what to load, and how to show its progress. A running memcached shows it by itself."""
    if options.memcached is not None:
        memcached = MemcachedSource(options.memcached, loading)
        return memcached, None, memcached
    path, read = (options.text, text_items) if options.text is not None else (options.export, exported_items)
    data = undo.enter_context(open_data(path))

    def show(done: int, total: int, items: int) -> None:
        loading(data.done, data.total, items)

    return read(data.file), show, None


def _report_rejected(loaded: Loaded) -> int:
    for rejected in loaded.first_rejected:
        say(f"line {rejected.number}: {rejected.reason}", is_error=True)
    if not loaded.rejected:
        return OK
    return _complain(f"{loaded.rejected:,} lines were not loaded; all others were", FAILED)


def run_restore(options: argparse.Namespace) -> int:
    """Return to an earlier state, or print what that would change, and return the exit status."""
    with contextlib.ExitStack() as undo:
        directory = undo.enter_context(_stopped_journal(options.directory))
        with take_snapshot(options.directory) as snapshot:
            with _progress(options, "reading") as progress:
                rewinding = undo.enter_context(Rewinding(snapshot, options.until, progress))
            with _progress(options, "counting", "items") as progress:
                rewinding.count(snapshot, progress)
        if not rewinding.rewound.dropped_records:
            say(f"the journal has no record after {local_time(options.until)}; there is nothing to restore")
            return OK
        print_rewound(rewinding.rewound)
        if not options.yes:
            return _complain(NOTHING_CHANGED, FAILED)
        directory.open()
        _say_notes(directory)
        with _progress(options, "restoring", "items") as progress:
            kept = rewinding.carry_out(directory, progress)
    say(f"restored; the original files are in {kept}")
    return OK


# Shared helpers


@contextlib.contextmanager
def _stopped_journal(path: Path) -> Iterator[JournalDirectory]:
    """Lock an existing journal.

    Raises JournalLocked if a server uses it, and JournalError if there is none.
    """
    present_manifest(path)
    with _locked(path) as directory:
        yield directory


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[JournalDirectory]:
    """Lock a directory so that its journal can be changed. Raises JournalLocked, JournalError and OSError."""
    with contextlib.closing(JournalDirectory(path, disk_for(path))) as directory:
        yield directory


def _say_notes(directory: JournalDirectory) -> None:
    for note in directory.notes():
        _complain(note, OK)


@contextlib.contextmanager
def _progress(options: argparse.Namespace, doing: str, things: str = "records") -> Iterator[Progress]:
    with show_progress(Log(), Path(printable(options.directory.name)), doing, things) as progress:
        yield progress


def _complain(text: str, status: int) -> int:
    sys.stdout.flush()
    say(f"{PROGRAM}: {text}", is_error=True)
    return status


def _print_json(found: dict[str, Any]) -> None:
    print(json.dumps(found))  # escapes all that is not ASCII
