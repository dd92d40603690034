"""What became of blocks that are not there any more."""

from collections import OrderedDict
from collections.abc import Iterable

_MOST_NAMES = 100_000


class MissLog:
    """Remembers causes by block, the newest ones."""

    def __init__(self) -> None:
        self._causes: OrderedDict[bytes, str] = OrderedDict()

    def note(self, names: Iterable[bytes], cause: str) -> None:
        """These blocks are gone, or were not kept."""
        for name in names:
            self._causes[name] = cause
            self._causes.move_to_end(name)
        while len(self._causes) > _MOST_NAMES:
            self._causes.popitem(last=False)

    def forget(self, name: bytes) -> None:
        """The block is there again."""
        self._causes.pop(name, None)

    def cause(self, name: bytes) -> str | None:
        """What became of a block, if that is known."""
        return self._causes.get(name)
