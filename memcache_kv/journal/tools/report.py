"""The output of the journal tools, as text and as JSON."""

from __future__ import annotations

import sys
from typing import Any

from memcache_kv.journal.manifest import in_words
from memcache_kv.journal.tools.restore import Rewound, local_time
from memcache_kv.journal.tools.statistics import Statistics
from memcache_kv.journal.tools.verify import FileCheck, Verification
from memcache_kv.observe.log import printable


def say(text: str, is_error: bool = False) -> None:
    """Print a line on standard output, or on standard error. Control characters are escaped."""
    print(printable(text), file=sys.stderr if is_error else sys.stdout)


def verification_as_json(found: Verification) -> dict[str, Any]:
    """Return the result of `verify` as a JSON object."""
    return {
        "directory": str(found.directory),
        "ok": found.is_sound and not found.kept_damages,
        "starts": found.is_sound,
        "records": found.records,
        "damages": found.damages,
        "manifest_damage": found.manifest_damage,
        "unfinished_bytes": found.unfinished_bytes,
        "files": [_file_as_json(file) for file in found.files],
        "kept": [[_file_as_json(file) for file in files] for files in found.kept],
        "kept_damages": found.kept_damages,
        "others": [{"name": other.name, "kind": other.kind, "bytes": other.bytes} for other in found.others],
    }


def _file_as_json(file: FileCheck) -> dict[str, Any]:
    return {
        "name": file.part.name,
        "kind": "base" if file.is_base else "increment",
        "missing": file.is_missing,
        "bytes": file.bytes,
        "records": file.records,
        "unfinished_bytes": file.unfinished_bytes,
        "damages": [{"offset": d.offset, "bytes": d.bytes, "reason": d.reason} for d in file.damages],
    }


def print_verification(found: Verification) -> None:
    """Print the result of `verify`."""
    if found.manifest_damage is not None:
        say(found.manifest_damage)
    for file in [file for files in found.kept for file in files]:
        _print_file(file, ", kept for `restore`")
    for file in found.files:
        _print_file(file)
    for other in found.others:
        say(f"{other.name}: {other.bytes:,} bytes, not part of the journal ({other.kind})")
    if found.is_sound:
        say(f"no damage in {found.records:,} records")
    hint = f"`memcache-kv journal repair {found.directory}` shows what can be done"
    if found.kept_damages:
        say(f"{found.kept_damages} damaged places in kept generations, which a server does without; {hint}")
    if not found.is_sound:
        say(f"{found.damages} damaged places; {hint}")


def _print_file(file: FileCheck, role: str = "") -> None:
    verdict = f"{len(file.damages)} damaged" if file.damages else "ok"
    say(f"{file.part.name}: {file.records:,} records, {file.bytes:,} bytes{role}, {verdict}")
    for damage in file.damages:
        say(f"  at offset {damage.offset}: {damage.bytes} bytes: {damage.reason}")
    if file.unfinished_bytes:
        say(f"  {file.unfinished_bytes} bytes of an unfinished record at the end, which is not damage")


def statistics_as_json(found: Statistics) -> dict[str, Any]:
    """Return the result of `stats` as a JSON object."""
    return {
        "directory": str(found.directory),
        "files": [{"name": name, "bytes": size} for name, size in found.files.items()],
        "total_bytes": found.total_bytes,
        "records": dict(found.records),
        "runs": found.runs,
        "first_at": found.first_at,
        "last_at": found.last_at,
        "rewind_at": found.rewind_at,
        "kept": [
            {
                "made_at": kept.made_at,
                "bytes": kept.files.bytes,
                "files": [{"name": part.name, "bytes": part.bytes} for part in kept.files.parts],
            }
            for kept in found.generations
        ],
        "last_flushes": list(found.last_flushes),
        "live_items": found.live_items,
        "live_bytes": found.live_bytes,
        "live_ratio": round(found.live_ratio, 4),
        "prefixes": [
            {"prefix": prefix.decode("utf-8", "backslashreplace"), "items": counted.items, "bytes": counted.bytes}
            for prefix, counted in found.prefixes
        ],
    }


def print_statistics(found: Statistics) -> None:
    """Print the result of `stats`."""
    for name, size in found.files.items():
        say(f"{name}: {size:,} bytes")
    records = ", ".join(f"{count:,} {op}" for op, count in found.records.most_common())
    say(f"records: {found.records.total():,} ({records}), of {found.runs} runs")
    say(f"from {local_time(found.first_at)} to {local_time(found.last_at)}")
    for kept in found.generations:
        say(f"kept: {in_words(kept.files)}, {kept.files.bytes:,} bytes, from {local_time(kept.made_at)}")
    say(f"can be restored to {local_time(found.rewind_at)} ({found.rewind_at})")
    if found.last_flushes:
        say("last flush_all: " + ", ".join(f"{local_time(at)} ({at})" for at in found.last_flushes))
    live = f"{found.live_items:,} items, {found.live_bytes:,} of {found.total_bytes:,} bytes"
    say(f"live: {live}, {100 * found.live_ratio:.1f} %")
    for prefix, counted in found.prefixes:
        say(f"  {prefix.decode('utf-8', 'backslashreplace')}: {counted.items:,} items, {counted.bytes:,} bytes")


def print_rewound(rewound: Rewound) -> None:
    """Print what `restore` would change."""
    say(f"until {local_time(rewound.until)}: {rewound.items_after:,} items; now {rewound.items_before:,}")
    dropped = ", ".join(f"{count:,} {op}" for op, count in rewound.dropped.most_common())
    say(f"{rewound.dropped_records:,} records are left out ({dropped})")
    if rewound.moment.passes > 1:
        passes = rewound.moment.passes
        say(f"the system's clock was set back, and showed that time {passes} times: the last one counts")
    if rewound.first_dropped_flush_at:
        say(f"the first flush_all among them was at {local_time(rewound.first_dropped_flush_at)}")
    if rewound.last_kept_flush_at:
        at = rewound.last_kept_flush_at
        say(f"the last flush_all that is kept was at {local_time(at)}: to undo it, use --until {at - 1}")
    if rewound.skipped_flush_at:
        say(f"the flush_all that was scheduled for {local_time(rewound.skipped_flush_at)} is left out")
