"""Programs that people run against a server: a shell, two loads of real data, and load tests."""
