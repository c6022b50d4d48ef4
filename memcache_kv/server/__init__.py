"""The running server: listeners, workers, connections, TLS, UDP and the process."""
