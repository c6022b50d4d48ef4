from typing import Any

class Turn:
    def __init__(
        self,
        context: Any,
        by_fd: dict[int, Any],
        poller: Any,
        acts: Any,
        connection_class: type[Any],
        text_class: type[Any],
        reading: Any,
    ) -> None: ...
    def serve_ready(self, timeout_seconds: float) -> int: ...
