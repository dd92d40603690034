"""Which folders are worth listing, so that their files have an order."""

_OPENS = 16
_MAX_FOLDERS = 4096


class Listings:
    """Counts the files that are opened in each folder; a folder with many of them is listed once.

    A listing costs a request for about a thousand names, and says what comes next in a folder and
    how large a data set is.
    """

    def __init__(self) -> None:
        self._opened: dict[str, int] = {}

    def opened(self, folder: str) -> bool:
        """Somebody opened a file there for the first time; whether to list the folder now."""
        count = self._opened.pop(folder, 0) + 1
        self._opened[folder] = count
        if len(self._opened) > _MAX_FOLDERS:
            self._opened.pop(next(iter(self._opened)), None)
        return count == _OPENS
