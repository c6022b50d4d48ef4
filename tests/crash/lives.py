"""A journal over many lives of its server, each ended by kill -9 in the midst of a mixed load."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tests.crash.load import Connection
from tests.crash.mixed import ALL_KEYS, Mix, look
from tests.crash.model import ABSENT, CLOCK_SECONDS, Command, Keys, Model, State, States
from tests.integration.wire import OURS, RunningServer

LOST_SECONDS = 1.0
"""everysec and never: what was answered so long before the kill must be there. It is a hundred times what is promised,
for machines that are busy; in what order things are lost is looked at to the letter."""


class Lives:
    """Rounds of load, kill, restart and a look at every key.

    What is found must be what some prefix of the commands comes to, for all keys at once: under `always` one that has
    all that was answered, otherwise one that has what was answered some time before.
    """

    def __init__(self, journal: Path, fsync: str, seed: int, flags: Sequence[str] = (), evicts: bool = False) -> None:
        self.rng = random.Random(seed)
        self.commands = self.finished = self.lost = 0
        self.lost_seconds = 0.0
        """How long before a kill the oldest answer came whose change was lost."""
        self.evicted = self.compactions = self.flushes = 0
        self._is_always = fsync == "always"
        self._evicts = evicts
        self._flags = ("--journal", str(journal), "--fsync", fsync, *flags)
        self._keys: Keys = dict.fromkeys(ALL_KEYS, ABSENT)
        self._number = 0
        self.server = RunningServer(OURS, self._flags)
        self._use_up_first_id()

    def _use_up_first_id(self) -> None:
        """Let no item have the CAS id 1: with that, the mix says that a value is older than the one that is there."""
        with closing(Connection(self.server)) as connection:
            connection.send(b"set first 0 0 1\r\n1\r\n")
            assert connection.read_line() == b"STORED\r\n"
            assert connection.gets(b"first")

    def close(self) -> None:
        """End the last server."""
        self.server.close()

    def play(self, seconds: float) -> None:
        """Put load on the server, kill it in the midst of that, start it anew and look at every key."""
        mix, killed_at = self._load(seconds)
        self.server.close()
        self.server = RunningServer(OURS, self._flags)
        with closing(Connection(self.server)) as connection:
            self._check(mix.history, killed_at, connection)
            self._try_tokens(mix, connection)
        self.finished += 1
        self.commands += len(mix.history)
        self.flushes += sum(command.flush_at is not None for command in mix.history)
        self.compactions += sum(command.reply == b"OK\r\n" and not command.key for command in mix.history)

    def _load(self, seconds: float) -> tuple[Mix, float]:
        may_wait = seconds > 1 or self.rng.random() < 0.1
        over = threading.Event()
        killed_at = 0.0

        def kill() -> None:
            nonlocal killed_at
            killed_at = time.time()
            self.server.kill()
            over.set()

        timer = threading.Timer(seconds, kill)
        with closing(Connection(self.server)) as connection:
            mix = Mix(connection, self.rng, self._number, may_wait)
            timer.start()
            mix.run(over)
            timer.join()
        self._number = mix.number
        return mix, killed_at

    # What must be true after a restart

    def _check(self, history: list[Command], killed_at: float, connection: Connection) -> None:
        self._wait_for_flush(history)
        found = {key: look(connection, key) for key in ALL_KEYS}
        certain = self._certain(history, killed_at)
        model, longest = Model(self._keys, self._evicts), -1
        kept: dict[bytes, States] = dict.fromkeys(ALL_KEYS, frozenset())
        now = time.time()
        for count, command in enumerate([*history, Command(b"")]):
            if count >= certain and model.explains(found, now):
                longest = count
                kept = {key: states | model.possible(key, found[key], now) for key, states in kept.items()}
            model.apply(command)
        assert longest >= 0, self._complaint(history, certain, found)
        self._count_lost(history[longest:], killed_at)
        self.evicted += sum(state is None and None not in kept[key] for key, state in found.items())
        self._keys = kept

    def _wait_for_flush(self, history: list[Command]) -> None:
        """Let the time come of a flush that may be waiting."""
        until = max((command.flush_at or 0.0 for command in history), default=0.0)
        if until:
            time.sleep(max(0.0, until + CLOCK_SECONDS - time.time()))

    def _certain(self, history: list[Command], killed_at: float) -> int:
        """Tell how many commands of the beginning must have lasted."""
        latest = killed_at + 1e9 if self._is_always else killed_at - LOST_SECONDS
        return sum(command.reply is not None and command.answered_at < latest for command in history)

    def _count_lost(self, rest: list[Command], killed_at: float) -> None:
        lost = [command for command in rest if command.reply is not None and command.effect is not None]
        self.lost += len(lost)
        if lost:
            self.lost_seconds = max(self.lost_seconds, killed_at - lost[0].answered_at)

    def _complaint(self, history: list[Command], certain: int, found: dict[bytes, State]) -> str:
        """Say what is wrong with the prefix that explains most."""
        model, now, fewest = Model(self._keys, self._evicts), time.time(), len(found) + 1
        lines: list[str] = []
        for count, command in enumerate([*history, Command(b"")]):
            wrong = list(model.unexplained(found, now)) if count >= certain else found
            if len(wrong) < fewest:
                fewest = len(wrong)
                lines = [f"the best are {count} of {len(history)}, {certain} must have lasted"]
                lines += [f"{key!r} may hold {_short(model.keys[key])}, holds {_short(found[key])}" for key in wrong]
            model.apply(command)
        return "\n".join([f"round {self.finished}:", *lines])

    def _try_tokens(self, mix: Mix, connection: Connection) -> None:
        """See that no CAS id from before the kill fits another value than the one it was given for."""
        for key, (value, token) in mix.tokens.items():
            found = look(connection, key)
            connection.send(b"cas %b 0 0 2 %d\r\nok\r\n" % (key, token))
            reply = connection.read_line()
            if reply == b"STORED\r\n":
                assert found is not None
                assert found.value == value, f"{key!r} took the token of another value"
                connection.send(b"delete %b\r\n" % key)
                assert connection.read_line() in (b"DELETED\r\n", b"NOT_FOUND\r\n")
                self._keys[key] = ABSENT


def _short(what: object) -> str:
    text = repr(what)
    return text if len(text) < 400 else f"{text[:200]} ... {text[-200:]}"
