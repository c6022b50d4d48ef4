"""The exceptions, and the exit statuses of programs that end with them.

MemcacheKVError
├── ConfigError         a setting is unknown, invalid, or asks for what is not possible
├── StoppedEarly        the server was asked to stop before it had started
├── WritesRejected      the journal can't be written, so the store rejects writes
├── ItemTooLarge        an item exceeds the limit for one item
├── OutOfMemory         there is no room for an item, and eviction is disabled
├── NotRunning          the server or the store was not started yet, or has stopped
├── ListenError         the server can't listen on an address
├── ThreadDied          an exception ended one of the server's threads
├── DataFileError       a data file can't be read, or has lines that are no items where all must be
└── JournalError        the journal can't be used
    ├── JournalLocked   another process uses the directory
    ├── JournalCorrupt  a record is damaged, a file is missing or too short, or it is not a journal
    ├── JournalFailed   a write or an fsync failed
    └── JournalLost     a file was deleted or replaced while the server was running
"""

FAILED_STATUS = 1
"""The server can't use something that it needs: the journal, the users file, a package."""
WRONG_STATUS = 2
"""A flag, a variable or a line of the configuration file is unknown or invalid."""
EX_USAGE = 64
"""A flag, a variable or a line of the configuration file is invalid, and memcached exits with this status too."""
EX_NOUSER = 67
"""The user to switch to does not exist."""
EX_OSERR = 71
"""The system does not allow something: an address, the pid file, a limit."""


class MemcacheKVError(Exception):
    """Base class of all errors that this package raises on purpose. Their text is one line for a person."""

    status = FAILED_STATUS
    """The exit status of a program that ends with this error."""


class ConfigError(MemcacheKVError):
    """A setting is unknown, invalid, or asks for what is not possible."""

    def __init__(self, message: str, status: int = WRONG_STATUS) -> None:
        super().__init__(message)
        self.status = status


class ListenError(MemcacheKVError):
    """The server can't listen on an address: it is in use, belongs to another machine, or is not an address."""

    status = EX_OSERR


class ThreadDied(MemcacheKVError):
    """An exception ended one of the server's threads, so that the server can't go on."""


class DataFileError(MemcacheKVError):
    """A data file can't be read, or not all of it can be loaded where all of it must be."""


class StoppedEarly(MemcacheKVError):
    """The server was asked to stop before it had started. This is not a failure."""


class WritesRejected(MemcacheKVError):
    """The journal can't be written, so the store rejects writes. Reads go on."""


class ItemTooLarge(MemcacheKVError):
    """An item exceeds the limit for one item (-I). A set has removed the item that the key had, as in memcached."""


class OutOfMemory(MemcacheKVError):
    """There is no room for an item, and eviction is disabled (-M)."""


class NotRunning(MemcacheKVError):
    """The server or the store was not started yet, or has stopped."""


class JournalError(MemcacheKVError):
    """The journal can't be used. The text names the file and says what to do."""


class JournalLocked(JournalError):
    """Another process uses the journal's directory."""


class JournalCorrupt(JournalError):
    """A record before the journal's end is damaged, a file is missing or too short, or it is not a journal."""


class JournalFailed(JournalError):
    """A write or an fsync failed, so the data is not safe on disk."""


class JournalLost(JournalError):
    """A file of the journal was deleted or replaced while the server was running.

    is_ours: whether the journal may be rewritten. It must not if another process may be using the directory.
    """

    def __init__(self, message: str, is_ours: bool = True) -> None:
        super().__init__(message)
        self.is_ours = is_ours
