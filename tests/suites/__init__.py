"""The suites of other projects, run with our fixtures in the place of their memcached."""
