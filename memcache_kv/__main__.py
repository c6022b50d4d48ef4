"""Entry point of `python -m memcache_kv`."""

import contextlib
import os
import sys


def forget_working_directory() -> None:
    """Remove the working directory from the import path, where -m puts it, so that nothing is imported from there.

    The package itself is imported already and finds its modules without that entry.
    """
    with contextlib.suppress(FileNotFoundError):  # the directory was removed, so it is not on the path
        if not sys.flags.safe_path and sys.path[0] == os.getcwd():
            del sys.path[0]


if __name__ == "__main__":
    forget_working_directory()
    from memcache_kv.cli import main

    sys.exit(main())
