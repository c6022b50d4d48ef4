"""What `stats` reports: counters, and the reports made of them."""
