"""Tests of the files of `key value` lines."""
