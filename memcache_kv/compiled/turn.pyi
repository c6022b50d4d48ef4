from typing import Any

class Requests:
    def __init__(self, store: Any, counters: Any, observers: Any, journal: Any) -> None: ...
    def run_text(self, session: Any, data: bytes, position: int, most: int) -> tuple[int, int]: ...
    def run_binary(self, session: Any, data: bytes, position: int, most: int) -> tuple[int, int]: ...

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
        reading: Any,
    ) -> None: ...
    def serve_ready(self, timeout_seconds: float) -> int: ...
