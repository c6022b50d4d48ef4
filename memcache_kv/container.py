"""What the container image runs: `memcache-kv`, and what images of memcached accept besides its flags.

- A first argument `memcached` or `memcache-kv` is the program's name, and is left out.
- If /data is a mount point, the journal is kept there, unless MEMCACHE_KV_JOURNAL or a TOML file decides about it.
- A user in MEMCACHED_USERNAME, with MEMCACHED_PASSWORD or the file MEMCACHED_PASSWORD_FILE, has to log in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path

from memcache_kv.__main__ import main as run_program
from memcache_kv.auth.access import CommandClass
from memcache_kv.auth.users import parse_users
from memcache_kv.config.loading import CONFIG_VARIABLE
from memcache_kv.errors import ConfigError
from memcache_kv.server.health import PASSWORD_VARIABLE

PROGRAM_NAMES = ("memcached", "memcache-kv")
DATA_DIRECTORY = Path("/data")
USERS_FILE = Path("/dev/shm/memcache_kv.users")  # nosec B108
"""There, a container can write with a read-only root too. A file that is there already is never opened."""
MOUNTS = Path("/proc/self/mountinfo")
JOURNAL_VARIABLE = "MEMCACHE_KV_JOURNAL"
AUTH_FILE_VARIABLE = "MEMCACHE_KV_AUTH_FILE"
SASL_VARIABLE = "MEMCACHE_KV_ENABLE_SASL"
USERNAME_VARIABLE = "MEMCACHED_USERNAME"
PASSWORD_FILE_VARIABLE = "MEMCACHED_PASSWORD_FILE"  # nosec B105


def main() -> int:
    """Run the program with this process's arguments and environment, and return the exit status."""
    sys.argv[1:] = without_program_name(sys.argv[1:])
    try:
        choose_journal(sys.argv[1:], os.environ)
        choose_login(os.environ)
    except ConfigError as error:
        print(f"memcache-kv: {error}", file=sys.stderr)
        return error.status
    return run_program()


def without_program_name(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without a program's name at their beginning."""
    named = bool(arguments) and os.path.basename(arguments[0]) in PROGRAM_NAMES
    return list(arguments[1:] if named else arguments)


def choose_journal(
    arguments: Sequence[str], environ: MutableMapping[str, str], directory: Path = DATA_DIRECTORY
) -> None:
    """Turn the journal on in the environment if the directory for it is a mount point, and nothing else decides.

    A flag --journal wins over the variable by itself. An empty variable turns the journal off.
    """
    if environ.get(JOURNAL_VARIABLE) == "":
        del environ[JOURNAL_VARIABLE]
        return
    has_file = CONFIG_VARIABLE in environ or any(word.partition("=")[0] == "--config" for word in arguments)
    if not has_file and is_mount_point(directory):
        environ.setdefault(JOURNAL_VARIABLE, str(directory))


def is_mount_point(directory: Path) -> bool:
    """Return whether something is mounted there, even if it is a part of the file system around it.

    `os.path.ismount` would not see that: it compares devices.
    """
    with MOUNTS.open("rb") as file:
        return any(line.split()[4] == os.fsencode(directory) for line in file)


def choose_login(environ: MutableMapping[str, str], users_file: Path = USERS_FILE) -> None:
    """Make a users file of the user and the password in the environment, if they are there. Raises ConfigError."""
    name = environ.get(USERNAME_VARIABLE)
    if not name:
        return
    if AUTH_FILE_VARIABLE in environ:
        raise ConfigError(f"{USERNAME_VARIABLE} and {AUTH_FILE_VARIABLE} exclude each other")
    write_users(users_file, name, _password(environ))
    environ[AUTH_FILE_VARIABLE] = str(users_file)
    environ.setdefault(SASL_VARIABLE, "yes")


def _password(environ: MutableMapping[str, str]) -> str:
    path = environ.get(PASSWORD_FILE_VARIABLE)
    if not path:
        return environ.pop(PASSWORD_VARIABLE, "")
    try:
        return Path(path).read_text().removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"{PASSWORD_FILE_VARIABLE}: can't read {path}: {reason}") from None


def write_users(path: Path, name: str, password: str) -> None:
    """Write a users file with one user, which only this process's user can read. Raises ConfigError."""
    line = os.fsencode(f"{name}:{password}\n")
    if not password or _reads_as(line) != (os.fsencode(name), os.fsencode(password), None):
        raise ConfigError(
            f"{USERNAME_VARIABLE} and {PASSWORD_VARIABLE}, or the file of {PASSWORD_FILE_VARIABLE}, do not fit into a "
            "users file: both need a line without a zero byte, of 254 bytes in sum, the name has no colon, and the "
            "password does not end with a colon and the name of a class"
        )
    try:
        path.unlink(missing_ok=True)  # of the container before this one, in the same pod
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(f"can't write {path}: {error.strerror}") from None
    with open(descriptor, "wb") as file:
        file.write(line)


def _reads_as(line: bytes) -> tuple[bytes, bytes, CommandClass | None] | None:
    """Return what a server reads in a users file of this line; None if that is not one user."""
    try:
        [found] = parse_users(line)
    except ValueError:
        return None
    return found


if __name__ == "__main__":
    sys.exit(main())
