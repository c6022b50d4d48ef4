"""For test suites of programs that use a memcached: fixtures, faults, strategies and a model."""
