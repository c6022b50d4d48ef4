"""The load tester: `python -m clients.load_test`."""
