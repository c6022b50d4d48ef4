"""Those who want to see single requests: the log, `watch`, counts by prefix."""
