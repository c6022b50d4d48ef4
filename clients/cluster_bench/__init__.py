"""Sets, gets and deletes against 1, 2 and 3 nodes, in each of the ways in which clients find a key's node."""
