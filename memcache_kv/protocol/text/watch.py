"""The command `watch`, which turns a connection into one that is told what the server does."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from memcache_kv.observe.watchers import Stream

if TYPE_CHECKING:
    from memcache_kv.protocol.text.responder import TextResponder


def watch(protocol: TextResponder, words: list[bytes]) -> None:
    """watch [<stream>*]; of a stream's name the beginning is enough, as in memcached."""
    context = protocol.context
    resume_later = context.resume_later
    if context.settings.disable_watch or resume_later is None:
        protocol.reply(b"CLIENT_ERROR watch commands not allowed")
        return
    if protocol.out:
        protocol.reply(b"ERROR cannot pipeline other commands before watch")
        return
    streams = [_named(word) for word in words[1:]] or [Stream.FETCHERS]
    known = frozenset(stream for stream in streams if stream is not None)
    if None in streams:
        protocol.reply(b"ERROR")
        return
    watcher = context.observers.watchers.add(known, partial(resume_later, protocol.fd))
    if watcher is None:
        protocol.reply(b"WATCHER_TOO_MANY log watcher limit reached")
        return
    protocol.reply(b"OK")
    protocol.watch(watcher)


def _named(word: bytes) -> Stream | None:
    """Return the first stream whose name begins like this."""
    return next((stream for stream in Stream if stream.value.encode().startswith(word)), None)
