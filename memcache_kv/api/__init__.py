"""The server and the store for programs that import them: what `memcache_kv` exports."""
