"""Files of `key value` lines: opening them, compressed or not, and reading the lines."""
