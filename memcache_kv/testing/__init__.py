"""What test suites use: faults on the wire, and what else a memcached for tests has."""
