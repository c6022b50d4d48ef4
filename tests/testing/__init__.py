"""What test suites use."""
