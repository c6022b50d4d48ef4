"""`python -m memcache_kv`."""

import contextlib
import os
import sys


def forget_working_directory() -> None:
    """Load nothing from the directory that the server happens to be started in, which -m puts first on the path.

    The package itself has been found already, and finds its modules without the path.
    """
    with contextlib.suppress(FileNotFoundError):  # it was removed: then it is not on the path either
        if not sys.flags.safe_path and sys.path[0] == os.getcwd():
            del sys.path[0]


if __name__ == "__main__":
    forget_working_directory()
    from memcache_kv.cli import main

    sys.exit(main())
