"""Compare 1, 2 and 3 nodes: over HTTP and memcached's protocol, with nginx and twemproxy where they are installed.

Starts three servers, sends a third sets, a third gets and a third deletes to one, two and three of them, and prints
requests per second and latencies. The nodes share this machine's processors with the load: where that has two, more
nodes are no faster. The exit status is 1 if a request failed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

from clients.requirements import what_to_install

try:
    from rich.console import Console
    from rich.progress import Progress

    from clients.cluster_bench.load import Result, run_way, start_processes
    from clients.cluster_bench.report import json_of, table_of
    from clients.cluster_bench.ways import WAYS, Targets
except ModuleNotFoundError as error:
    sys.exit(what_to_install(error))

from clients.cluster_bench.nodes import NODE_COUNT, find_program, proxied, running_nodes
from clients.local_server import ServerStartError


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m clients.cluster_bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--requests", type=_positive, default=30_000, help="per row of the table (default 30000)")
    parser.add_argument("--clients", type=_positive, default=4, help="processes that send requests (default 4)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the results to a file, as JSON")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def missing_programs() -> dict[str, str]:
    """Say which ways can't be run here, and why."""
    return {
        way: f"{kind.program} is not installed"
        for way, kind in WAYS.items()
        if kind.program and find_program(kind.program) is None
    }


def run_all(executor: Executor, ways: Sequence[str], options: argparse.Namespace, console: Console) -> list[Result]:
    """Run each way with 1, 2 and 3 nodes. Raises ServerStartError."""
    results = []
    start_processes(executor, options.clients)
    with running_nodes() as all_nodes, Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=len(ways) * NODE_COUNT)
        for way in ways:
            for count in range(1, NODE_COUNT + 1):
                progress.update(task, description=f"{WAYS[way].title}, nodes: {count}")
                nodes = Targets(all_nodes.memcached[:count], all_nodes.http[:count])
                with proxied(nodes, WAYS[way]) as targets:
                    results.append(run_way(executor, way, targets, options.clients, options.requests))
                progress.advance(task)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return 0 when every request did what it should."""
    options = parse_arguments(arguments)
    skipped = missing_programs()
    ways = [way for way in WAYS if way not in skipped]
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(options.clients, context) as executor:
            results = run_all(executor, ways, options, Console(stderr=True))
    except ServerStartError as error:
        print(error, file=sys.stderr)
        return 1
    Console().print(table_of(results, skipped))
    if options.output is not None:
        options.output.write_text(json_of(results, skipped, options.clients))
    return 1 if any(result.total.failed for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
