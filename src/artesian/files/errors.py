"""What can go wrong with cached files; everything is a `FilesError`."""

from artesian.files.base import FilesError


class FilesUsageError(FilesError, ValueError):
    """An argument or a directory that cannot be used."""


class OriginError(FilesError, OSError):
    """The origin did not answer, answered wrongly, or refused; what it said is the cause."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ChangedError(FilesError, OSError):
    """The origin's file changed while it was open: open it again to read the new bytes."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class NotCachedError(FilesError, FileNotFoundError):
    """In offline mode: what was asked for is not in the cache."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""
