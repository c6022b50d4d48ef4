"""Requests to which releases of memcached answer differently: each server is held to its own release."""

import pytest

from tests.integration.known_differences import DIFFERENCES, Difference, reply_of
from tests.integration.wire import Wire


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.name)
def test_a_release_answers_as_it_is_known_to(wire: Wire, difference: Difference) -> None:
    wire.expect(difference.request, reply_of(wire.server, difference))
