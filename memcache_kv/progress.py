"""Progress of long work, shown as a bar on a terminal or as lines in a log."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from memcache_kv.observe.log import Log
from memcache_kv.unpatched import time

LINE_SECONDS = 5.0
"""The time between two lines if there is no terminal."""


@contextlib.contextmanager
def show_progress(
    log: Log, path: Path, doing: str = "recovering", things: str = "records"
) -> Iterator[Callable[[int, int, int], None]]:
    """Yield a function that shows the progress of work on a path while the block runs.

    doing, things: words for the work and for what it counts. The function takes the amount done, the total amount in
    the same unit (0 if unknown) and the number of things so far.

    The bar needs rich (the `progress` extra). Without it, a terminal gets the same lines as a log.
    """
    what = f"{doing} {path.name}"
    if sys.stderr is not None and sys.stderr.isatty():
        try:
            import rich.progress as bars
        except ImportError:
            pass
        else:
            columns = (
                bars.TextColumn("{task.description}"),
                bars.BarColumn(),
                bars.TaskProgressColumn(),
                bars.TextColumn("{task.fields[count]:,} " + things + ", {task.fields[rate]:,.0f}/s"),
                bars.TimeElapsedColumn(),
                bars.TimeRemainingColumn(),
            )
            with bars.Progress(*columns, console=_console()) as progress:
                task = progress.add_task(what, total=None, count=0, rate=0)
                began = time.monotonic()

                def draw(done: int, total: int, count: int) -> None:
                    rate = count / max(time.monotonic() - began, 0.001)
                    progress.update(task, completed=done, total=total or None, count=count, rate=rate)

                yield draw
            return
    yield _lines(log, what, things)


def _console() -> Any:
    import rich.console

    return rich.console.Console(stderr=True)


def _lines(log: Log, what: str, things: str) -> Callable[[int, int, int], None]:
    began = last = time.monotonic()

    def write_line(done: int, total: int, count: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_SECONDS:
            last = now
            left = (now - began) * (total - done) / max(done, 1)
            so_far = f"{count} {things}, {count / (now - began):.0f}/s"
            log.say(f"{what}: {100 * done // total} %, {so_far}, {left:.0f} s left" if total else f"{what}: {so_far}")

    return write_line
