"""Adding items from other sources to a journal that no server uses. Either all of them are added, or none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from memcache_kv.clock import Clock
from memcache_kv.datafile.lines import Rejected, read_batches
from memcache_kv.journal.directory import JournalDirectory
from memcache_kv.journal.manifest import Manifest, Part, increment_name, new_id, number_of
from memcache_kv.journal.record import FORMAT_VERSION, set_line
from memcache_kv.journal.recovery import CAS_RUN_BITS, Progress, survey
from memcache_kv.journal.tools.export import ExportedItem
from memcache_kv.journal.tools.rewrite import PROGRESS_ITEMS, NewPart, follows_of, start_line, swap, uninterrupted
from memcache_kv.store.entry import LONGEST_KEY_BYTES, STALE, WON

SHOWN_REJECTIONS = 20
FLAGS_LIMIT = 1 << 32


class SourceItem(NamedTuple):
    """An item to load. Its CAS id elsewhere is not kept: clients get a new one.

    exp: unix time of expiry, 0 for never. state: the bits STALE and WON.
    """

    key: bytes
    value: bytes
    flags: int = 0
    exp: int = 0
    state: int = 0


Source: TypeAlias = Iterable[SourceItem | Rejected]


@dataclass
class Loaded:
    """The result of a load."""

    items: int = 0
    bytes: int = 0
    expired: int = 0
    """The number of items that were not loaded because they had expired."""
    rejected: int = 0
    first_rejected: list[Rejected] = field(default_factory=list)


def load(
    directory: JournalDirectory, source: Source, reading: Progress | None = None, loading: Progress | None = None
) -> Loaded:
    """Append a source's items to a journal, or create one with them. The directory must be locked.

    reading, loading: called with the progress of reading the existing journal, and of the source. Raises JournalError
    and OSError, and the source's own errors; then nothing was loaded.
    """
    manifest = directory.open()
    cas, stepped = 0, None
    if manifest is not None:
        # Cuts off an unfinished record and checks the rest; the items themselves are not needed.
        found = survey(directory.path, directory.disk, manifest, Clock().now, reading)
        cas, stepped = found.last_cas >> CAS_RUN_BITS << CAS_RUN_BITS, found.stepped
        manifest = found.manifest
    number = number_of(manifest.increments[-1].name) + 1 if manifest is not None else 1
    with NewPart(directory.path, directory.disk, increment_name(number)) as new:
        kept = _closed(directory, manifest)
        follows = follows_of(directory.path, directory.disk, kept)
        new.write(start_line(cas, kept.id, kept.serial, follows, stepped))
        loaded = _write_items(new, source, loading)
        with uninterrupted():
            whole = replace(kept, increments=(*kept.increments, new.finish()), serial=kept.serial + 1)
            swap(directory.path, directory.disk, [new], whole)
    return loaded


def _closed(directory: JournalDirectory, manifest: Manifest | None) -> Manifest:
    """Return the manifest with the whole length of the last increment; that of a new journal has none."""
    if manifest is None:
        return Manifest(FORMAT_VERSION, id=new_id())
    *closed, last = manifest.increments
    whole = Part(last.name, directory.disk.size(directory.path / last.name))
    kept = [part for part in (*closed, whole) if part.bytes]
    new = Manifest(FORMAT_VERSION, manifest.base, tuple(kept), manifest.id or new_id())
    return replace(new, serial=manifest.serial, kept=manifest.kept)


def _write_items(new: NewPart, source: Source, loading: Progress | None) -> Loaded:
    loaded = Loaded()
    now = Clock().now
    for item in source:
        if isinstance(item, Rejected):
            loaded.rejected += 1
            if len(loaded.first_rejected) < SHOWN_REJECTIONS:
                loaded.first_rejected.append(item)
            continue
        if 0 < item.exp <= now:
            loaded.expired += 1
            continue
        new.write(set_line(item.key, item.flags, item.exp, 0, item.value, item.state))
        loaded.items += 1
        loaded.bytes += len(item.key) + len(item.value)
        if loading is not None and not loaded.items % PROGRESS_ITEMS:
            loading(loaded.bytes, 0, loaded.items)
    return loaded


# Files


def text_items(file: BinaryIO) -> Iterator[SourceItem | Rejected]:
    """Parse lines that hold a key, a space or tab, and the value up to the end of the line."""
    for batch in read_batches(file):
        yield from map(SourceItem, batch.keys, batch.values)
        yield from batch.rejected


def exported_items(file: BinaryIO) -> Iterator[SourceItem | Rejected]:
    """Parse the lines of an export."""
    decode = msgspec.json.Decoder(ExportedItem).decode
    for number, line in enumerate(file, 1):
        try:
            item = decode(line)
        except (msgspec.MsgspecError, UnicodeError) as error:
            yield Rejected(number, str(error))
            continue
        key = item.key_bytes()
        if not 0 < len(key) <= LONGEST_KEY_BYTES:
            yield Rejected(number, f"the key has {len(key)} bytes; 1 to {LONGEST_KEY_BYTES} are allowed")
        elif item.value is None and item.value64 is None:
            yield Rejected(number, "there is no value")
        elif not (0 <= item.flags < FLAGS_LIMIT and item.exp >= 0):
            yield Rejected(number, "flags or exp are out of range")
        else:
            yield SourceItem(key, item.value_bytes(), item.flags, item.exp, STALE * item.stale | WON * item.won)
