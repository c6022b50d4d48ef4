"""The log that the settings ask for."""

from __future__ import annotations

import os
import sys

from memcache_kv.config.settings import LogFormat, Settings
from memcache_kv.errors import FAILED_STATUS, ConfigError
from memcache_kv.observe.log import Log
from memcache_kv.observe.log_form import Form, Level, as_json, plain, with_priority, with_time
from memcache_kv.observe.rotated_file import RotatedFile

JOURNAL_STREAM = "JOURNAL_STREAM"
"""The variable in which systemd gives the device and inode of its journal's stream (systemd.exec(5))."""

LEAST_LEVELS = {"error": Level.ERROR, "warning": Level.WARNING}
"""The least severe lines of the settings that leave out some. Of the others, -v and `verbosity` decide."""


def make_log(settings: Settings) -> Log:
    """Return a log on standard error in the form that the settings ask for."""
    form = as_json() if settings.log_format is LogFormat.JSON else _text_form(settings.verbose)
    return Log(settings.verbose, form=form, level=LEAST_LEVELS.get(settings.log_level, Level.DEBUG))


def open_log_file(settings: Settings, log: Log) -> RotatedFile | None:
    """Let a log go on in the file that the settings name; return that file, None if they name none.

    Raises ConfigError if the file can't be opened.
    """
    if settings.log_file is None:
        return None
    try:
        file = RotatedFile(settings.log_file)
    except OSError as error:
        raise ConfigError(f"can't write the log {settings.log_file}: {error.strerror}", FAILED_STATUS) from None
    log.redirect(file, as_json() if settings.log_format is LogFormat.JSON else with_time())
    return file


def _text_form(verbosity: int) -> Form:
    """Return the form for standard error: programs that read memcached's lines there find them unchanged."""
    if sys.stderr is None:
        return plain
    if is_journal_stream(os.environ.get(JOURNAL_STREAM, "")):
        return with_priority
    return with_time() if verbosity and sys.stderr.isatty() else plain


def is_journal_stream(named: str) -> bool:
    """Tell whether standard error is the stream that systemd named, and not one to which it was redirected since."""
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{found.st_dev}:{found.st_ino}"
