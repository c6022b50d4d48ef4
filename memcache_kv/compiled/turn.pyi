from typing import Any

class Requests:
    def __init__(self, store: Any, counters: Any, observers: Any, journal: Any) -> None: ...
    def run_text(self, session: Any, data: bytes, position: int, most: int) -> tuple[int, int]: ...
    def run_binary(self, session: Any, data: bytes, position: int, most: int) -> tuple[int, int]: ...
    def run_line(self, session: Any, data: bytes, position: int, most: int) -> tuple[int, int]: ...

class Held:
    def __init__(
        self,
        journal: Any,
        acts: Any,
        connections: Any,
        connection_class: type[Any],
        session_class: type[Any],
        reading: Any,
        waiting: Any,
        latency: Any,
    ) -> None: ...
    def release(self) -> None: ...

class Turn:
    def __init__(
        self,
        requests: Requests,
        by_fd: dict[int, Any],
        poller: Any,
        acts: Any,
        connection_class: type[Any],
        text_class: type[Any],
        binary_class: type[Any],
        line_class: type[Any] | None,
        reading: Any,
        held: Held,
        latency: Any,
    ) -> None: ...
    def serve_ready(self, timeout_seconds: float) -> int: ...
