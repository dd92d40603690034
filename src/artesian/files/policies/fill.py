"""A whole data set in the background."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice


class Fill:
    """Goes once through all files below a folder, as far as they were listed."""

    def __init__(self, folder: str, listings: Mapping[str, Sequence[str]]) -> None:
        self._files = self._below(folder, listings)
        self.is_done = False

    def next(self, count: int) -> Sequence[str]:
        """Paths of so many more files; fewer at the end."""
        found = list(islice(self._files, count))
        self.is_done = len(found) < count
        return found

    def _below(self, folder: str, listings: Mapping[str, Sequence[str]]) -> Iterator[str]:
        for name in listings.get(folder, ()):
            path = f"{folder}{'' if folder.endswith('/') else '/'}{name}"
            if path in listings:
                yield from self._below(path, listings)
            else:
                yield path
