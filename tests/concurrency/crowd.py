"""Many threads at once, of which none may fail."""

import threading
from collections.abc import Callable

PATIENCE_SECONDS = 60.0


def run_together(*tasks: Callable[[], object]) -> None:
    """Run each of these on a thread of its own, all from the same moment; raise what the first to fail raised."""
    ready = threading.Barrier(len(tasks))
    failures: list[BaseException] = []

    def run(task: Callable[[], object]) -> None:
        try:
            ready.wait(PATIENCE_SECONDS)
            task()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(task,), daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    if failures:
        raise failures[0]
    assert not any(thread.is_alive() for thread in threads), "some threads never ended"
