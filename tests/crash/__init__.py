"""Tests which end servers at the worst moment, and look at what is left."""
