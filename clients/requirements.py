"""What to say where a package is missing that these programs need."""


def what_to_install(error: ModuleNotFoundError) -> str:
    """Say in one line which package is missing, and how it is installed in a clone of this repository."""
    package = (error.name or "").partition(".")[0]
    return f"{package} is not installed: pip install '.[clients]' in a clone of memcache_kv, or pip install {package}"
