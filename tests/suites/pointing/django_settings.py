"""Settings for Django's own tests: its two memcached backends, each with a server of its own."""

import os
from importlib.util import find_spec

DATABASES = {name: {"ENGINE": "django.db.backends.sqlite3"} for name in ("default", "other")}
SECRET_KEY = "a key for tests"
USE_TZ = False
BACKENDS = {"PyMemcacheCache": "PYMEMCACHE_SERVER"}
"""The backends, and the variables with the addresses of their servers."""
if find_spec("pylibmc") is not None:
    BACKENDS["PyLibMCCache"] = "PYLIBMC_SERVER"
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    **{
        name: {"BACKEND": f"django.core.cache.backends.memcached.{name}", "LOCATION": os.environ.get(variable)}
        for name, variable in BACKENDS.items()
    },
}
