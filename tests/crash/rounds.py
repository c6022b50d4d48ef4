"""Rounds of load, a sudden or an orderly end, and a look at what a restart brings back."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from memcache_kv.store import ItemStore
from memcache_kv.store.entry import deadline_of
from tests.crash.load import COUNTER, TOKENS, Connection, Key, State, Writer
from tests.integration.wire import DEADLINE, OURS, RunningServer, poll_until
from tests.journal.history import replay

WRITERS = 4


def rounds_of(default: int) -> int:
    """How many rounds to play: KILL_ROUNDS says how many in place of the few of every day."""
    return int(os.environ.get("KILL_ROUNDS") or default)


def start_server(journal: Path, fsync: str) -> RunningServer:
    """Start a server on a journal; ready once this returns."""
    return RunningServer(OURS, ("--journal", str(journal), "--fsync", fsync))


class Rounds:
    """A journal over many lives of its server, with what clients were promised.

    seed: of everything that is random here; compacts: whether the journal is rewritten all the time.
    """

    def __init__(self, journal: Path, fsync: str, seed: int, compacts: bool = False) -> None:
        self.compacts = compacts
        self.journal = journal
        self.fsync = fsync
        self.rng = random.Random(seed)
        self.server = start_server(journal, fsync)
        self.keys: list[dict[bytes, Key]] = [{} for _ in range(WRITERS)]
        self.acknowledged = 0
        self.finished = 0
        self._counter = 0
        self._tokens = b""
        self._set_up()

    def _set_up(self) -> None:
        client = Connection(self.server)
        client.send(b"set %b 0 0 1\r\n0\r\nset %b 0 0 0\r\n\r\n" % (COUNTER, TOKENS))
        assert client.read_line() == client.read_line() == b"STORED\r\n"
        client.close()

    def close(self) -> None:
        """End the last server."""
        self.server.close()

    def play(self, end_server: Callable[[RunningServer], object], load_seconds: float) -> None:
        """Put load on the server, end it in the midst of that, start it anew and check every key."""
        writers = self._start_writers()
        if self.compacts:
            self._rewrite_for(load_seconds)
        else:
            writers[0].thread.join(load_seconds)  # it ends before only when something is wrong
        end_server(self.server)
        self._stop(writers)
        self.server.close()
        self.server = start_server(self.journal, self.fsync)
        self._check(writers)
        self.finished += 1

    def _rewrite_for(self, seconds: float) -> None:
        """Have the journal rewritten again and again, for so long."""
        client = Connection(self.server)
        give_up_at = time.monotonic() + seconds
        while time.monotonic() < give_up_at:
            client.send(b"journal compact\r\n")
            assert client.read_line() in (b"OK\r\n", b"BUSY currently rewriting the journal\r\n")
            time.sleep(self.rng.uniform(0, 0.005))
        client.close()

    def play_until(self, ready: Callable[[], bool], what: str, load_seconds: float) -> None:
        """Put load on the server, let it end in peace, wait until `ready`, then kill the server and check."""
        writers = self._start_writers()
        writers[0].thread.join(load_seconds)
        for writer in writers:
            writer.stopping.set()
        self._stop(writers)
        poll_until(ready, what)
        self.server.kill()
        self.server.close()
        self.server = start_server(self.journal, self.fsync)
        assert all(len(key.candidates) == 1 for keys in self.keys for key in keys.values())
        self._check(writers)
        self.finished += 1

    def _start_writers(self) -> list[Writer]:
        writers = [
            Writer(f"w{number}", self.keys[number], random.Random(self.rng.random())) for number in range(WRITERS)
        ]
        for writer in writers:
            writer.start(self.server, self.finished)
        return writers

    def _stop(self, writers: list[Writer]) -> None:
        for writer in writers:
            writer.thread.join(DEADLINE)
            assert not writer.thread.is_alive()
            if writer.failure is not None:
                raise writer.failure
        self.acknowledged += sum(writer.acknowledged for writer in writers)

    # What must be true after a restart

    def _check(self, writers: list[Writer]) -> None:
        client = Connection(self.server)
        store = self._replayed()
        for keys in self.keys:
            for key in keys.values():
                self._check_key(client, store, key)
        self._check_counter(client, writers)
        self._check_tokens(client, writers)
        client.close()

    def _replayed(self) -> ItemStore:
        """Read the journal here too: a deadline is something that no command tells."""
        copy = self.journal.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.journal, copy)
        return replay(copy, int(time.time()))[0]

    def _check_key(self, client: Connection, store: ItemStore, key: Key) -> None:
        found = client.gets(key.name)
        entry = store.get(key.name)
        deadline = 0 if entry is None else deadline_of(entry)
        state = None if found is None else State(found[0], found[1], deadline)
        assert state in key.candidates, (
            f"round {self.finished}: {key.name!r} holds {state!r}; acknowledged was {key.candidates[0]!r}, "
            f"attempted {key.candidates[1:]!r}"
        )
        key.candidates = [state]

    def _check_counter(self, client: Connection, writers: list[Writer]) -> None:
        found = client.gets(COUNTER)
        assert found is not None
        count = int(found[0])
        least = self._counter + sum(writer.increments_acknowledged for writer in writers)
        most = self._counter + sum(writer.increments_sent for writer in writers)
        assert least <= count <= most
        self._counter = count

    def _check_tokens(self, client: Connection, writers: list[Writer]) -> None:
        found = client.gets(TOKENS)
        assert found is not None
        text = found[0]
        assert text.startswith(self._tokens)
        new = text[len(self._tokens) :].split(b";")[:-1]
        for writer in writers:
            mine = [token + b";" for token in new if token.startswith(writer.name + b".")]
            assert mine in (writer.tokens_acknowledged, writer.tokens_sent)
        self._tokens = text
