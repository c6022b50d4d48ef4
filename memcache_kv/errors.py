"""The tree of exceptions, and the exit statuses that they end the program with.

MemcacheKVError
├── ConfigError         a setting is unknown, wrong, or can't be fulfilled (the status says which)
├── StoppedEarly        somebody wanted the end before the server had started
├── ChangesRefused      the journal can't be written, so the store changes nothing
├── ListenError         an address can't be listened on
├── ThreadDied          one of the server's threads ended by a fault
└── JournalError        the journal can't be used
    ├── JournalLocked   another process has the directory
    ├── JournalCorrupt  a record fails its checksum, a file is missing or was cut off, or it is not a journal
    ├── JournalFailed   a write or an fsync failed
    └── JournalLost     a file was deleted or replaced while serving
"""

FAILED_STATUS = 1
"""Something that the server needs can't be used: the journal, the file of users, a package."""
WRONG_STATUS = 2
"""A flag, a variable or a line of the configuration file is unknown or wrong."""
EX_USAGE = 64
"""The same, where memcached ends with this status."""
EX_NOUSER = 67
"""The user to switch to does not exist."""
EX_OSERR = 71
"""The system refuses something: an address, the pid file, a limit."""


class MemcacheKVError(Exception):
    """Base of everything this package raises on purpose; its text is one line for a person."""

    status = FAILED_STATUS
    """The exit status of a program that ends because of it."""


class ConfigError(MemcacheKVError):
    """A setting is unknown, wrong, or can't be fulfilled."""

    def __init__(self, message: str, status: int = WRONG_STATUS) -> None:
        super().__init__(message)
        self.status = status


class ListenError(MemcacheKVError):
    """An address can't be listened on: taken, not ours, or not an address."""

    status = EX_OSERR


class ThreadDied(MemcacheKVError):
    """One of the server's threads ended by a fault of ours, so that the server can't go on."""


class StoppedEarly(MemcacheKVError):
    """Somebody wanted the end before the server had started; not a failure."""


class WritesRejected(MemcacheKVError):
    """The journal can't be written, so that the store changes nothing; reading goes on."""


class JournalError(MemcacheKVError):
    """The journal can't be used; the text names the file and says what to do."""


class JournalLocked(JournalError):
    """Another process holds the journal's directory."""


class JournalCorrupt(JournalError):
    """A record before the end of the journal is damaged, a file of it is missing or cut off, or it is not ours."""


class JournalFailed(JournalError):
    """The disk refused a write or an fsync, so that what was to be written is not safe."""


class JournalLost(JournalError):
    """A file of the journal was deleted or replaced while serving.

    is_ours: whether it may be written anew: not where another process may have the directory by now.
    """

    def __init__(self, message: str, is_ours: bool = True) -> None:
        super().__init__(message)
        self.is_ours = is_ours
