"""`python -m memcache_kv`."""

import sys

from memcache_kv.cli import main

if __name__ == "__main__":
    sys.exit(main())
