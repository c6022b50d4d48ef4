"""Bytes that no client should send."""
