"""The tree of exceptions.

MemcacheKVError
├── ConfigError         a flag, variable or file says something senseless (exit status 2, or 64 as memcached)
├── StoppedEarly        somebody wanted the end before the server had started
├── ListenError         an address can't be listened on
└── JournalError        the journal can't be used
    ├── JournalLocked   another process has the directory
    ├── JournalCorrupt  a record in the middle fails its checksum, or the file is not a journal
    └── JournalFailed   a write or an fsync failed while serving
"""


class MemcacheKVError(Exception):
    """Base of everything this package raises on purpose; its text is one line for a person."""


class ConfigError(MemcacheKVError):
    """A setting is unknown or senseless.

    `status` is the exit status: 2, or 64 (EX_USAGE) where memcached ends with it.
    """

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


class ListenError(MemcacheKVError):
    """An address can't be listened on: taken, not ours, or not an address."""


class StoppedEarly(MemcacheKVError):
    """Somebody wanted the end before the server had started; not a failure."""


class JournalError(MemcacheKVError):
    """The journal can't be used; the text names the file and says what to do."""


class JournalLocked(JournalError):
    """Another process holds the journal's directory."""


class JournalCorrupt(JournalError):
    """A record before the end of the journal is damaged, or the file is not a journal of ours."""


class JournalFailed(JournalError):
    """The disk refused a write or an fsync, so nothing more may be acknowledged."""
