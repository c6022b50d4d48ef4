"""Traffic between clients and servers, seen from outside: its calls, recordings of it, and replays of these."""
