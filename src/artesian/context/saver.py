"""Blocks on their way out of the arena."""

from collections.abc import Container, Sequence, Set
from dataclasses import dataclass

from artesian.context.base import Done
from artesian.context.shelf import Shelf
from artesian.kvcache.prefix_cache import PrefixCache


@dataclass(slots=True, eq=False)
class _Saving:
    held: list[int]
    tenant: str
    names: Sequence[bytes] = ()
    """Of the blocks that are held."""
    num_open: int = 0


class Saver:
    """Saves blocks to a shelf. A block that is being saved is held, and so are those before it, so
    that the prefix cache goes on evicting leaves first."""

    def __init__(self, prefix_cache: PrefixCache, shelf: Shelf) -> None:
        self._prefix_cache = prefix_cache
        self._shelf = shelf
        self._open: dict[int, tuple[bytes, _Saving]] = {}
        self._names: set[bytes] = set()

    @property
    def num_open(self) -> int:
        """Saves under way."""
        return len(self._open)

    @property
    def names(self) -> Set[bytes]:
        """Blocks that are being saved."""
        return self._names

    def save(
        self,
        names: Sequence[bytes],
        blocks: Sequence[int],
        first: int,
        wanted: Container[bytes] | None = None,
        tenant: str = "",
    ) -> int:
        """Begins to save blocks `first`, `first + 1`, ... of a sequence, which holds them all.

        They are `tenant`'s. Only those that are `wanted`, if that is given. Returns how many of
        them are saved, will be, or are not wanted; the next ones may be tried again later.
        """
        saving = _Saving([], tenant)
        index = first
        while index < len(blocks):
            name = names[index]
            is_new = name not in self._shelf and name not in self._names
            if is_new and (wanted is None or name in wanted):
                ticket = self._shelf.tier.save(name, blocks[index])
                if ticket is None:  # those behind it are of no use without it
                    break
                self._open[ticket] = (name, saving)
                self._names.add(name)
                saving.num_open += 1
                saving.held = list(blocks[: index + 1])
                saving.names = names[: index + 1]
            index += 1
        self._prefix_cache.acquire(saving.held)
        return index - first

    def end(self, done: Done) -> bool:
        """Takes notice of a save that has ended; False if `done` is none."""
        if done.ticket not in self._open:
            return False
        name, saving = self._open.pop(done.ticket)
        self._names.remove(name)
        self._shelf.end_save(name, done, saving.tenant)
        saving.num_open -= 1
        if saving.num_open == 0:
            self._shelf.use(saving.names, saving.tenant)  # the ends of what was saved go first
            self._prefix_cache.release(saving.held)
        return True
