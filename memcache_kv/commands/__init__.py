"""What a command does to the store, once for all protocols: they parse requests and format replies."""
