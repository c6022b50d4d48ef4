"""The append-only journal of changes. Knows no protocol and no socket.

Its format is described in docs/reference/journal_format.md.
"""
