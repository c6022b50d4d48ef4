"""Programs that people run against a server: a shell, and two loads of real data."""
