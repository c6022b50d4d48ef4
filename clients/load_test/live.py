"""The line that shows how the load goes while it runs."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from clients.load_test.load import Load
from clients.load_test.measurement import Measurement

REFRESHES_A_SECOND = 4
BAR_CELLS = 20


class LiveLine:
    """Shows one line on a terminal, and nothing elsewhere; as a context manager, it removes the line at the end."""

    def __init__(self, console: Console, load: Load) -> None:
        """Prepare it."""
        self._load = load
        self._live = Live(console=console, refresh_per_second=REFRESHES_A_SECOND, transient=True)
        self._shown = console.is_terminal

    def __enter__(self) -> Self:
        """Begin to show it."""
        if self._shown:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove it."""
        self._live.stop()

    def stored(self, keys: int) -> None:
        """Show how many keys are stored."""
        if self._shown:
            done = keys / self._load.keys
            self._live.update(_line("storing", done, f"{keys:,} of {self._load.keys:,} keys"))

    def measured(self, measurement: Measurement) -> None:
        """Show what is measured so far: the rate of the last whole tick, all else since the beginning."""
        if self._shown and measurement.moments:
            line = _line("measuring", self._done(measurement), figures_of(measurement))
            self._live.update(line, refresh=True)

    def _done(self, measurement: Measurement) -> float:
        load = self._load
        if load.duration is not None:
            return measurement.moments[-1].at / load.duration
        return measurement.requests / (load.requests * measurement.connections)


def figures_of(measurement: Measurement) -> str:
    """Return the figures of the line."""
    now, hits = measurement.moments[-1], measurement.hit_rate
    parts = [
        f"{now.at:.0f} s",
        f"{now.rate:,.0f}/s",
        f"mean {measurement.mean_ms:.2f} ms",
        f"p99 {measurement.percentile_ms(99):.2f} ms",
        f"errors {measurement.errors:,}",
    ]
    return "  ".join(parts if hits is None else [*parts, f"hits {hits:.1%}"])


def _line(what: str, done: float, figures: str) -> Text:
    cells = round(BAR_CELLS * min(done, 1.0))
    return Text.assemble(
        (f"{what} ", "bold"), ("━" * cells, "green"), ("━" * (BAR_CELLS - cells), "bright_black"), f" {figures}"
    )
