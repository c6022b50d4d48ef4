"""Tests of what test suites use: the model, the strategies, the fixtures."""
