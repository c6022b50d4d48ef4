"""For all tests of the compiled modules: a turn does not end by time, as in the tests of the protocols."""

from tests.protocol.conftest import turns_without_time_limit as turns_without_time_limit
