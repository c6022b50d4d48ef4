"""Tests of the programs in clients/, run as their users run them."""
