"""Load a server for a while, one request in flight on each connection; print the latencies in ms as JSON.

Run as its own process: python -m benchmarks.latency_load PORT SECONDS [--connections N] [--rate N] [--keys N]

With --rate, requests are due at fixed times. One that has to wait for a connection counts from when it was due:
a server that stands still is charged with all that would have come meanwhile.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import select
import sys
import time
from collections.abc import Sequence

from benchmarks.durability_load import (
    ANSWER_SECONDS,
    TEXT,
    Lane,
    Phase,
    Request,
    UnexpectedReplyError,
    fill,
    make_requests,
)

WARM_UP_SHARE = 0.15
"""Of the time, before the latencies count."""


class PacedLoad:
    """Send requests when they are due, or at once where there is no rate."""

    def __init__(self, port: int, connections: int, requests: list[Request], rate: float) -> None:
        self._requests = requests
        self._sent = 0
        self._gap = 1 / rate if rate else 0.0
        self._lanes = {lane.fd: lane for lane in (Lane(port) for _ in range(connections))}
        self._idle = list(self._lanes.values())
        self._poller = select.epoll()
        for fd in self._lanes:
            self._poller.register(fd, select.EPOLLIN)

    def run(self, seconds: float) -> Phase:
        """Load for so long; return what was measured after the warm-up."""
        clock, poll = time.perf_counter, self._poller.poll
        phase, warm = Phase("warm-up"), clock() + seconds * WARM_UP_SHARE
        end = clock() + seconds
        due = clock()
        waited = False
        while (now := clock()) < end:
            if phase.name == "warm-up" and now > warm:
                phase = Phase("measured")
            while self._idle and due <= now:
                # late because all connections were busy: the server's fault; late because we slept: ours
                self._send(self._idle.pop(), due if waited and self._gap else now)
                due = due + self._gap if self._gap else now
            waited = not self._idle
            self._wait(due - now)
            for fd, _ in poll(0):
                self._receive(self._lanes[fd], phase)
        phase.end()
        return phase

    def _wait(self, until_due: float) -> None:
        """Wait for answers, or until the next request is due: by select, as epoll knows only whole milliseconds."""
        seconds = max(until_due, 0.0) if self._idle else ANSWER_SECONDS
        if not select.select([self._poller], [], [], seconds)[0] and not self._idle:
            raise UnexpectedReplyError(f"no answer in {ANSWER_SECONDS} s")

    def _send(self, lane: Lane, since: float) -> None:
        request, lane.awaited = self._requests[self._sent % len(self._requests)]
        self._sent += 1
        lane.sent_at = since
        os.write(lane.fd, request)

    def _receive(self, lane: Lane, phase: Phase) -> None:
        data = os.read(lane.fd, 4096)
        lane.awaited -= len(data)
        if not data or lane.awaited < 0:
            raise UnexpectedReplyError(f"the server answered {data[:100]!r}")
        if lane.awaited == 0:
            phase.latencies.append(time.perf_counter() - lane.sent_at)
            self._idle.append(lane)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill, load and print; return the exit status."""
    parser = argparse.ArgumentParser(prog="latency_load.py", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second (default: as many as are answered)")
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--sets", type=float, default=0.1)
    options = parser.parse_args(arguments)
    gc.disable()
    try:
        fill(TEXT, options.port, options.keys)
        load = PacedLoad(
            options.port, options.connections, make_requests(TEXT, options.keys, options.sets), options.rate
        )
        print(json.dumps(load.run(options.seconds).report()))
    except (OSError, UnexpectedReplyError) as error:
        print(f"the load broke off: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
