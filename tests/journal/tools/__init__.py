"""Tests of the tools for journals, mostly as a user runs them."""
