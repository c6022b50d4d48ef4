"""Tests of the journal: its records, its writing, its reading back, its directory."""
