"""Fixtures of the journal's tests."""

from tests.journal.disk import disk

__all__ = ["disk"]
