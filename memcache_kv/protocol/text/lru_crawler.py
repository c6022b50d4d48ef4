"""lru_crawler: control the thread that removes expired items, and list all keys (protocol.txt, "LRU_Crawler")."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from memcache_kv.protocol.numbers import unsigned32
from memcache_kv.protocol.replies import BAD_FORMAT
from memcache_kv.store import listing
from memcache_kv.store.store import ItemStore

if TYPE_CHECKING:
    from memcache_kv.protocol.text.responder import TextResponder

CLASSES = range(1, 64)
"""The valid numbers of size classes, as in memcached."""
EVERY_CLASS = (b"all", b"hash")
LONGEST_SLEEP_US = 1_000_000


def lru_crawler(protocol: TextResponder, words: list[bytes]) -> None:
    """lru_crawler <what> [<argument>]; <what> may be shortened to a prefix, as in memcached."""
    if len(words) == 3:
        for name, handler in WITH_ARGUMENT.items():
            if name.startswith(words[1]):
                handler(protocol, words[2])
                return
    elif len(words) == 2 and b"enable".startswith(words[1]):
        started = protocol.context.crawler.enable()
        protocol.reply(b"OK" if started else b"ERROR failed to start lru crawler thread")
        return
    elif len(words) == 2 and b"disable".startswith(words[1]):
        protocol.context.crawler.disable()
        protocol.reply(b"OK")
        return
    protocol.reply(b"ERROR")


def _crawl(protocol: TextResponder, classes: bytes) -> None:
    """Start a crawl of the items in these classes."""
    crawler = protocol.context.crawler
    if not crawler.enabled:
        protocol.reply(b"CLIENT_ERROR lru crawler disabled")
    elif classes == b"hash":
        protocol.reply(b"ERROR an unknown error happened")
    elif _is_class_list(protocol, classes):
        started = crawler.request()  # a crawl covers the items of all classes
        protocol.reply(b"OK" if started else b"BUSY currently processing crawler request")


def _metadump(protocol: TextResponder, classes: bytes) -> None:
    _dump(protocol, classes, listing.metadump, b"metadump", b"ERROR metadump not allowed")


def _mgdump(protocol: TextResponder, classes: bytes) -> None:
    _dump(protocol, classes, listing.mgdump, b"mgdump", b"ERROR key dump not allowed")


def _dump(
    protocol: TextResponder,
    classes: bytes,
    make: Callable[[ItemStore, listing.Classes], Iterator[bytes]],
    name: bytes,
    refusal: bytes,
) -> None:
    context = protocol.context
    if not context.crawler.enabled:
        protocol.reply(b"CLIENT_ERROR lru crawler disabled")
    elif context.settings.disable_dumping:
        protocol.reply(refusal)
    elif protocol.out:
        protocol.reply(b"ERROR cannot pipeline other commands before " + name)
    elif _is_class_list(protocol, classes):
        numbers = None if classes in EVERY_CLASS else frozenset(_class_numbers(classes))
        protocol.answer_chunks(make(context.store, numbers))


def _is_class_list(protocol: TextResponder, classes: bytes) -> bool:
    """Return whether this names all classes or lists their numbers; if not, reply with an error."""
    numbers = _class_numbers(classes)
    if classes in EVERY_CLASS:
        return True
    if 0 in numbers:
        protocol.reply(b"BADCLASS invalid class id")
    elif not numbers:
        protocol.reply(b"NOTSTARTED no items to crawl")
    return bool(numbers) and 0 not in numbers


def _class_numbers(classes: bytes) -> list[int]:
    return [_class_number(word) for word in classes.split(b",") if word]


def _class_number(word: bytes) -> int:
    """Parse the number of a size class; 0 for an invalid one."""
    number = unsigned32(word)
    return number if number is not None and number in CLASSES else 0


def _tocrawl(protocol: TextResponder, argument: bytes) -> None:
    """Set how many items a requested crawl examines; 0 for all."""
    count = unsigned32(argument)
    if count is None:
        protocol.reply(BAD_FORMAT)
        return
    protocol.context.crawler.tocrawl = count
    protocol.reply(b"OK")


def _sleep(protocol: TextResponder, argument: bytes) -> None:
    """Set how many microseconds the crawler sleeps between items; 0 for no sleep."""
    sleep_us = unsigned32(argument)
    if sleep_us is None:
        protocol.reply(BAD_FORMAT)
    elif sleep_us > LONGEST_SLEEP_US:
        protocol.reply(b"CLIENT_ERROR sleep must be one second or less")
    else:
        protocol.context.crawler.sleep_us = sleep_us
        protocol.reply(b"OK")


WITH_ARGUMENT: dict[bytes, Callable[[TextResponder, bytes], None]] = {
    b"crawl": _crawl,
    b"metadump": _metadump,
    b"mgdump": _mgdump,
    b"tocrawl": _tocrawl,
    b"sleep": _sleep,
}
"""The subcommands with an argument, in the order in which memcached compares them."""
