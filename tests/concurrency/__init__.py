"""Tests of many clients and threads at once."""
