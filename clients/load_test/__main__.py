"""Send a load to a server: `python -m clients.load_test --help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from clients.requirements import what_to_install

try:
    from rich.console import Console

    from clients.load_test.crew import Crew, LoadError
    from clients.load_test.live import LiveLine
    from clients.load_test.page import page_of
    from clients.load_test.report import Report, now
except ModuleNotFoundError as error:
    sys.exit(what_to_install(error, "load"))

from clients.load_test.load import Load
from clients.load_test.options import parse_arguments

TARGET_MISSED, UNREACHABLE = 1, 3


def carry_out(load: Load, console: Console) -> Report:
    """Store the keys, and measure. Raises LoadError."""
    with Crew(load) as crew, LiveLine(console, load) as line:
        if load.rows is None:
            crew.store(line.stored)
        started_at, measurements = now(), []
        for connections in load.users or (load.connections,):
            measurements.append(crew.measure(connections, line.measured))
            if measurements[-1].interrupted:
                break
    return Report(load, measurements, started_at)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    options, console = parse_arguments(arguments), Console()
    try:
        report = carry_out(options.load, console)
    except LoadError as error:
        print(f"{options.load.address}: {error}", file=sys.stderr)
        return UNREACHABLE
    except KeyboardInterrupt:
        return 130
    report.show(console)
    try:
        if options.output is not None:
            options.output.write_text(report.as_json() + "\n")
        if options.html is not None:
            options.html.write_text(page_of(report))
    except OSError as error:
        print(f"cannot write {error.filename}: {error.strerror}", file=sys.stderr)
        return UNREACHABLE
    return 0 if report.passed else TARGET_MISSED


if __name__ == "__main__":
    sys.exit(main())
