"""Settings: flags, environment variables, the TOML file, and memcached's own `-o` options."""
