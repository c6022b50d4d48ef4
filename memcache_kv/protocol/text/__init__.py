"""The classic text protocol, and the framing it shares with the meta commands."""
