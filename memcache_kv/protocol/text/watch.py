"""The command `watch`, after which a connection receives log lines about the server's work."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from memcache_kv.observe.watchers import Stream

if TYPE_CHECKING:
    from memcache_kv.protocol.text.responder import TextResponder


def watch(protocol: TextResponder, words: list[bytes]) -> None:
    """watch [<stream>*]; a stream's name may be shortened to a prefix, as in memcached."""
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
    """Return the first stream whose name begins with `word`, or None."""
    return next((stream for stream in Stream if stream.value.encode().startswith(word)), None)
