"""Tests of the protocols, fed bytes without sockets."""
