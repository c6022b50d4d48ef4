"""Logins: the users file, passwords, and delays after failed logins."""
