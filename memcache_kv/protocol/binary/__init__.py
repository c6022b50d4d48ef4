"""The binary protocol."""
