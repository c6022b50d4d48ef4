"""The log, and the observers of single requests: `watch`, and counts per key prefix."""
