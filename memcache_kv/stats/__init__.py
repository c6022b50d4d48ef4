"""The command `stats`: counters, and the reports made of them."""
