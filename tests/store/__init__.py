"""Tests of the store: no protocol, no file, and a clock that stands still."""
