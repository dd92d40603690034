"""An advisor that reads nothing ahead, keeps everything, and lets go what was used longest ago."""

from collections.abc import Iterator, Sequence

from artesian.files.base import (
    BLOCK_BYTES,
    Access,
    Block,
    Explanation,
    Prefetch,
    Unit,
    Verdict,
)


class LruAdvisor:
    """An `Advisor` with one unit and no opinion."""

    def __init__(self, capacity_bytes: int, block_bytes: int = BLOCK_BYTES) -> None:
        self._capacity_bytes = capacity_bytes
        self._block_bytes = block_bytes
        self._rooms: dict[Block, int] = {}
        self._num_hits = 0
        self._num_misses = 0

    def access(self, access: Access, *, is_ours: bool = True) -> Sequence[Prefetch]:
        """Nothing is read ahead."""
        first = access.offset // self._block_bytes
        end = max(first, (access.offset + access.length - 1) // self._block_bytes) + 1
        self._num_hits += access.num_hits
        self._num_misses += end - first - access.num_hits
        for number in range(first, end):
            block = Block(access.path, number)
            room = self._rooms.pop(block, None)
            if room is not None:
                self._rooms[block] = room
        return ()

    def admit(self, block: Block, num_bytes: int, now_s: float, *, is_prefetch: bool) -> bool:
        """Everything is worth its room."""
        return num_bytes <= self._capacity_bytes

    def stored(self, block: Block, num_bytes: int, now_s: float, *, is_ours: bool = True) -> None:
        """It is the last one to go."""
        self._rooms.pop(block, None)
        self._rooms[block] = num_bytes

    def removed(self, block: Block, now_s: float) -> None:
        """Forgets it."""
        self._rooms.pop(block, None)

    def victims(self, num_bytes: int, now_s: float) -> Iterator[Block]:
        """Those used longest ago, until they make up `num_bytes`, and then the others."""
        yield from list(self._rooms)

    def expired(self, now_s: float) -> Sequence[Block]:
        """Nothing goes while there is room."""
        return ()

    def fetched(self, path: str, num_bytes: int, took_s: float) -> None:
        """Costs do not matter here."""

    def listed(self, folder: str, names: Sequence[str]) -> None:
        """Nor does order."""

    def resize(self, capacity_bytes: int) -> None:
        """Takes the new bound."""
        self._capacity_bytes = capacity_bytes

    def units(self, now_s: float) -> Sequence[Unit]:
        """All blocks together."""
        return [
            Unit(
                "",
                Verdict.UNKNOWN,
                "least recently used goes first",
                self._capacity_bytes,
                sum(self._rooms.values()),
                num_hits=self._num_hits,
                num_misses=self._num_misses,
            )
        ]

    def explain(self, path: str, now_s: float) -> Explanation:
        """There is nothing to explain."""
        reasons = ("blocks used longest ago go first; nobody looks at how files are read",)
        return Explanation(path, Verdict.UNKNOWN, self.units(now_s)[0], reasons=reasons)

    def save(self) -> bytes:
        """Nothing is worth remembering."""
        return b""

    def load(self, saved: bytes) -> None:
        """Nothing was remembered."""
