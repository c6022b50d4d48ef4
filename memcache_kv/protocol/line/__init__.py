"""The line protocol: PUT, GET, DELETE, EXISTS and QUIT, one line each, with a one-line reply."""
