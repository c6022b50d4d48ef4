"""`memcache-kv journal …`: one module for each tool."""
