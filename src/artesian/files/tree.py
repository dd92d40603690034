"""The tree of access streams (`crates/files`), with names for its numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from artesian import _core
from artesian.files.base import Access, Verdict


class UnitChange(NamedTuple):
    """A unit begins, changes, or ends: then its verdict is unknown.

    Attributes:
        number: of the unit, above 0; path: the folder or file at its top.
    """

    number: int
    path: str
    verdict: Verdict


class UnitFacts(NamedTuple):
    """What policies want to know of a unit.

    Attributes:
        reuse_mean_s, reuse_deviation_s, reuse_last_s: until a child is wanted again.
        num_watched, num_reused: children of which every use is noticed, and those wanted again.
        accesses_per_s: to different children, lately.
        num_children: as listed, or guessed; data_bytes: below it, as far as known.
        stride: most frequent step in the listing, 1 if there is none.
        is_provisional: whether the verdict may still change soon.
    """

    reuse_mean_s: float
    reuse_deviation_s: float
    reuse_last_s: float
    num_watched: int
    num_reused: int
    accesses_per_s: float
    num_children: int
    data_bytes: float
    stride: int
    is_provisional: bool


@dataclass(frozen=True, slots=True)
class Level:
    """A folder or file on the way to a path.

    Attributes:
        rule: the test that decided; numbers: of all tests.
    """

    path: str
    verdict: Verdict
    rule: str
    is_provisional: bool
    is_unit: bool
    numbers: dict[str, float]


@dataclass(frozen=True, slots=True)
class TreeOptions:
    """Constants of the tree and its tests; ours, as those of IGTCache (2506.12370) are not known.

    Attributes:
        window: accesses that a node remembers; max_nodes: nodes that there are at most.
        provisional_after, full_after: accesses before the first verdict, and before one that holds.
        retest_every: accesses between tests then; fewest: children of a node that is judged.
        sequential_share: part of the steps that are sequential if all are called so.
        num_frontiers: scans that are followed at once, 16 at most.
        alpha: error of the test for random access.
        repeat_deviations: repeats above those of random access, in standard deviations, that are
            too many; tests_repeats: whether that is looked at.
    """

    window: int = 128
    max_nodes: int = 10_000
    provisional_after: int = 32
    full_after: int = 100
    retest_every: int = 50
    fewest: int = 8
    sequential_share: float = 0.8
    num_frontiers: int = 16
    alpha: float = 0.01
    repeat_deviations: float = 3.0
    tests_repeats: bool = True


class AccessStreamTree:
    """Recent accesses at every level of the name space, and how each level is read.

    After IGTCache (2506.12370), reconstructed from its abstract. One thread at a time.
    """

    def __init__(self, block_bytes: int, options: TreeOptions | None = None) -> None:
        """Makes an empty one. Raises `ValueError` if an option is out of its range."""
        options = options or TreeOptions()
        named = {name: getattr(options, name) for name in TreeOptions.__slots__}
        self._tree = _core.AccessStreamTree(block_bytes=block_bytes, **named)

    def access(self, access: Access) -> tuple[int, bool]:
        """Somebody read: number of the nearest unit above, 0 if none, and whether units changed.

        The upper half of the stream's number says which process reads.
        """
        path, offset, length, stream, time_s, file_bytes = access[:6]
        return self._tree.access(path, offset, length, file_bytes, stream, stream >> 32, time_s)

    def listed(self, folder: str, names: Sequence[str]) -> None:
        """A folder's children in the origin's order."""
        self._tree.list(folder, list(names))

    def unit_of(self, path: str) -> int:
        """Number of the nearest unit at a path or above, 0 if there is none."""
        return self._tree.unit_of(path)

    def take_changes(self) -> Iterable[UnitChange]:
        """Changes of units since the last call, in their order."""
        return [UnitChange(n, path, Verdict(v)) for n, path, v in self._tree.take_changes()]

    def unit(self, number: int) -> UnitFacts | None:
        """Facts about a unit; None if it is gone."""
        found = self._tree.unit(number)
        return None if found is None else UnitFacts(*found)

    def explain(self, path: str) -> Sequence[Level]:
        """All levels from the mount to a path, as far as they are known."""
        found = self._tree.explain(path)
        return [Level(p, Verdict(v), r, is_p, is_u, num) for p, v, r, is_p, is_u, num in found]

    def remember(self) -> Sequence[tuple[str, str, bool]]:
        """Path, verdict, and whether it was read again, of units now and in earlier runs."""
        return self._tree.remember()

    def recall(self, verdicts: Iterable[tuple[str, str, bool]]) -> None:
        """Takes up what `remember` returned; it holds until two tests in a row say otherwise."""
        self._tree.recall(list(verdicts))

    def was_reread(self, path: str) -> bool:
        """Whether a unit was read again in an earlier run."""
        return self._tree.was_reread(path)

    def size(self) -> tuple[int, int, int]:
        """Nodes, their bytes, and their bytes with listings."""
        return self._tree.size()
