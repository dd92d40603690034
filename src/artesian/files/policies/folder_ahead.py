"""Files of a folder before a reader comes to them."""

from collections import OrderedDict
from collections.abc import Sequence

_MOST_READERS = 64


class FolderAhead:
    """For folders whose files are read in order: each reader has a window of files, from one on.

    It doubles while readers come to what was fetched, and begins anew when they go elsewhere.
    """

    def __init__(self) -> None:
        # reader -> rank, end of what was fetched, window
        self._readers: OrderedDict[tuple[int, str], tuple[int, int, int]] = OrderedDict()

    def access(
        self, reader: int, folder: str, rank: int, stride: int, names: Sequence[str], most: int
    ) -> Sequence[str]:
        """A reader begins with file `rank` of a folder; names of files to fetch, in order.

        Args:
            stride: ranks between the files that are read, 1 for all; negative for backwards.
            most: files that the window may have.
        """
        key = (reader, folder)
        before = self._readers.pop(key, None)
        ahead, window = rank, 1
        if before is not None:
            last, end, known = before
            if last == rank:
                self._readers[key] = before
                return ()
            steps = (rank - last) // stride
            if 0 < steps <= known + 4 and (rank - last) % stride == 0:
                is_used = (end - rank) * stride >= 0
                window = min(known * 2, most) if is_used else known
                ahead = end if is_used else rank
        window = max(1, min(window, most))
        goal = rank + window * stride
        found = []
        place = ahead + stride
        while (goal - place) * stride >= 0 and 0 <= place < len(names):
            found.append(names[place])
            place += stride
        self._readers[key] = (rank, place - stride, window)
        if len(self._readers) > _MOST_READERS:
            self._readers.popitem(last=False)
        return found
