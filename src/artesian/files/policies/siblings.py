"""Files that are wanted soon after another one."""

from collections import OrderedDict, deque
from collections.abc import Sequence

_MOST_FILES = 512
_MOST_FOLLOWERS = 8
_WINDOW = 4
_FEWEST = 3
_SHARE = 0.5


class Siblings:
    """Counts which files follow within the next few of the same reader; those that did at least
    every other time are fetched with it."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[int, dict[str, int]]] = OrderedDict()
        self._recent: OrderedDict[int, deque[str]] = OrderedDict()

    def access(self, reader: int, path: str) -> Sequence[str]:
        """A reader begins with a file; what is likely to follow."""
        recent = self._recent.setdefault(reader, deque(maxlen=_WINDOW))
        self._recent.move_to_end(reader)
        if len(self._recent) > 64:
            self._recent.popitem(last=False)
        if recent and recent[-1] == path:
            return ()
        for before in set(recent) - {path}:
            if before in self._counts:
                self._follows(before, path)
        uses, followers = self._counts.pop(path, (0, {}))
        self._counts[path] = (uses + 1, followers)
        if len(self._counts) > _MOST_FILES:
            self._counts.popitem(last=False)
        recent.append(path)
        if uses < _FEWEST:
            return ()
        return [other for other, count in followers.items() if count >= _SHARE * uses]

    def _follows(self, before: str, path: str) -> None:
        uses, followers = self._counts[before]
        if path not in followers and len(followers) == _MOST_FOLLOWERS:
            del followers[min(followers, key=followers.__getitem__)]
        followers[path] = min(followers.get(path, 0) + 1, uses)
