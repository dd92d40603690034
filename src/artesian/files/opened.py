"""A file in one generation, as somebody opened it."""

from dataclasses import dataclass, field

from artesian.files.base import Block
from artesian.files.generation import Generation, block_name
from artesian.files.origin import Origin


@dataclass(slots=True, eq=False)
class OpenFile:
    """What has to be known to read a file.

    Attributes:
        path: the origin's name for it; url: the one for advisors, see `Origin.url`.
        generation: the state that is read; None if the origin tells of none: then it is not kept.
        stream: for `Access.stream`.
        is_offline: nothing is to be asked of the origin.
    """

    origin: Origin
    path: str
    url: str
    generation: Generation | None
    size: int
    block_bytes: int
    stream: int = 0
    is_offline: bool = False
    _names: dict[int, bytes] = field(default_factory=dict)

    @property
    def num_blocks(self) -> int:
        """How many blocks it has."""
        return -(-self.size // self.block_bytes)

    def block(self, number: int) -> Block:
        """Block `number`, for advisors."""
        return Block(self.url, number)

    def name(self, number: int) -> bytes:
        """The name of block `number`."""
        name = self._names.get(number)
        if name is None:
            assert self.generation is not None
            name = self._names[number] = block_name(
                self.origin.identity, self.path, self.generation.text, self.block_bytes, number
            )
        return name

    def again(self, stream: int) -> "OpenFile":
        """The same file in the same generation, opened once more."""
        return OpenFile(
            self.origin,
            self.path,
            self.url,
            self.generation,
            self.size,
            self.block_bytes,
            stream,
            self.is_offline,
            self._names,
        )

    def span(self, number: int) -> tuple[int, int]:
        """The bytes of the file that block `number` has: first, end."""
        start = number * self.block_bytes
        return start, min(start + self.block_bytes, self.size)
