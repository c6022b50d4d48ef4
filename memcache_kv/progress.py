"""Showing how far a long piece of work has come: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from memcache_kv.log import Log

LINE_SECONDS = 5.0
"""How often a line is written where there is no terminal to draw on."""


@contextlib.contextmanager
def show_progress(log: Log, path: Path) -> Iterator[Callable[[int, int, int], None]]:
    """Yield a function to be told the bytes done, the bytes in all and the records done.

    The bar needs rich (the `progress` extra); without it, a terminal gets the same lines as a log.
    """
    if sys.stderr.isatty():
        try:
            import rich.progress as bars
        except ImportError:
            pass
        else:
            columns = (
                bars.TextColumn("recovering {task.description}"),
                bars.BarColumn(),
                bars.TaskProgressColumn(),
                bars.TextColumn("{task.fields[records]:,} records"),
                bars.TransferSpeedColumn(),
                bars.TimeRemainingColumn(),
            )
            with bars.Progress(*columns, console=_console()) as progress:
                task = progress.add_task(path.name, total=None, records=0)
                yield lambda done, total, records: progress.update(task, completed=done, total=total, records=records)
            return
    yield _lines(log, path)


def _console() -> "rich.console.Console":  # type: ignore[name-defined]  # noqa: F821, UP037
    import rich.console

    return rich.console.Console(stderr=True)


def _lines(log: Log, path: Path) -> Callable[[int, int, int], None]:
    began = last = time.monotonic()

    def tell(done: int, total: int, records: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_SECONDS:
            last = now
            left = (now - began) * (total - done) / max(done, 1)
            log.say(f"recovering {path.name}: {100 * done // max(total, 1)} %, {records} records, {left:.0f} s left")

    return tell
