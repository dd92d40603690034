"""Blocks of a file before its reader comes to them."""

from collections import OrderedDict
from dataclasses import dataclass

_MOST_STREAMS = 512
_MOST_FOLDERS = 1024


@dataclass(slots=True)
class _Stream:
    """A reader of a file.

    Attributes:
        position: first block that was not read; end: of what was read ahead; window: blocks that
            are read ahead; num_used: of those, the ones that the reader came to.
    """

    position: int
    end: int
    window: int
    num_used: int = 0


class ReadAhead:
    """A window for each reader: it begins small, doubles while it is used, and halves on waste.

    As in JuiceFS and Mountpoint-S3; that the readers of a folder's files begin with half of what
    those before them have come to is ours.
    """

    def __init__(self) -> None:
        self._streams: OrderedDict[tuple[int, str], _Stream] = OrderedDict()
        self._begins: OrderedDict[str, int] = OrderedDict()

    def access(
        self, stream: int, path: str, first: int, end: int, num_blocks: int, most: int
    ) -> tuple[int, int] | None:
        """A reader reads blocks `first` to `end` (exclusive); what to read ahead, if anything.

        Args:
            most: blocks that the window may have.
        """
        key = (stream, path)
        known = self._streams.get(key)
        if known is None:
            known = self._begin(key, first)
            if first > 0:
                known.position = end
                return None
        elif first > known.position or end < known.position:
            self._jump(known, path, end)
            return None
        self._streams.move_to_end(key)
        if end > known.position:
            used = min(end, known.end) - max(first, known.position)
            if used > 0:
                known.num_used += used
                if known.num_used >= known.window:
                    known.num_used = 0
                    known.window *= 2
            known.position = end
        known.window = max(1, min(known.window, most))
        self._remember(path, known.window)
        # The next window is asked for when half of the last one is left.
        goal = min(known.position + known.window, num_blocks)
        ahead = max(known.end, known.position)
        if goal <= ahead or ahead - known.position > known.window // 2 or most <= 0:
            return None
        known.end = goal
        return ahead, goal

    def _begin(self, key: tuple[int, str], first: int) -> _Stream:
        """A file's beginning starts a window; from elsewhere a second access has to follow on."""
        window = max(1, self._begins.get(_folder(key[1]), 1) // 2)
        known = self._streams[key] = _Stream(first, 0, window)
        if len(self._streams) > _MOST_STREAMS:
            self._streams.popitem(last=False)
        return known

    def _jump(self, known: _Stream, path: str, end: int) -> None:
        """The reader is elsewhere; if most of what was read ahead is left, that was too much."""
        left = known.end - known.position
        if left > 0 and left > known.window // 2:
            known.window = max(1, known.window // 2)
            self._remember(path, known.window)
        known.num_used = 0
        known.position, known.end = end, 0

    def _remember(self, path: str, window: int) -> None:
        folder = _folder(path)
        self._begins[folder] = window
        self._begins.move_to_end(folder)
        if len(self._begins) > _MOST_FOLDERS:
            self._begins.popitem(last=False)


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
