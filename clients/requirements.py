"""What to say where a package is missing that these programs need."""


def what_to_install(error: ModuleNotFoundError, extra: str = "clients") -> str:
    """Say in one line which package is missing, and which extra of this repository installs it in a clone."""
    package = (error.name or "").partition(".")[0]
    return f"{package} is not installed: pip install '.[{extra}]' in a clone of memcache_kv, or pip install {package}"
