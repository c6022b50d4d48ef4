"""Tests of what commands do, whatever the protocol."""
