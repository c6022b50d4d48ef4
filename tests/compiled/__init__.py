"""Tests of the compiled modules: they do the same as their Python counterparts."""
