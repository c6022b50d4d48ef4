"""The entry point, of `memcache-kv` and of `python -m memcache_kv`."""

import contextlib
import os
import sys

from memcache_kv.streams import open_standard_streams


def forget_working_directory() -> None:
    """Remove the working directory from the import path, where -m puts it, so that nothing is imported from there.

    The package itself is imported already and finds its modules without that entry.
    """
    with contextlib.suppress(FileNotFoundError):  # the directory was removed, so it is not on the path
        if not sys.flags.safe_path and sys.path[0] == os.getcwd():
            del sys.path[0]


def main() -> int:
    """Run the command line of this process, and return the exit status."""
    open_standard_streams()
    from memcache_kv import cli  # imported now, as libraries open files when they are imported

    return cli.main()


if __name__ == "__main__":
    forget_working_directory()
    sys.exit(main())
