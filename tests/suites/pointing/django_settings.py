"""Settings for Django's own tests: its memcached backends, each with a server of its own."""

import os

DATABASES = {name: {"ENGINE": "django.db.backends.sqlite3"} for name in ("default", "other")}
SECRET_KEY = "a key for tests"
USE_TZ = False
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
BACKENDS = {"PyMemcacheCache": "PYMEMCACHE_SERVER", "PyLibMCCache": "PYLIBMC_SERVER"}
"""The backends, and the variables with the addresses of their servers."""
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    **{
        name: {"BACKEND": f"django.core.cache.backends.memcached.{name}", "LOCATION": os.environ[variable]}
        for name, variable in BACKENDS.items()
        if variable in os.environ
    },
}
