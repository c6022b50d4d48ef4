"""Who may log in: the users file, passwords, failed logins."""
