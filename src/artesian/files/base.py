"""What the store of files and those who advise it say to each other.

The store moves bytes: it reads from an origin, keeps blocks, serves them. An `Advisor` decides: it
is told what is read, and says what to read ahead, what to keep and what goes first. Advisors do no
I/O and have no clock; the live store and the simulator drive the same ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

BLOCK_BYTES = 4 << 20
"""Files are cut into blocks of so many bytes, the last one shorter (JuiceFS's default)."""


class FilesError(Exception):
    """Base of all errors of `artesian.files`; the message says what was wrong and what to do."""


class Verdict(StrEnum):
    """How a stream is read, as far as is known."""

    UNKNOWN = "unknown"
    SEQUENTIAL = "sequential"
    RANDOM = "random"
    SKEWED = "skewed"


class Block(NamedTuple):
    """A block of a file, whatever the file's generation.

    Attributes:
        path: as in `Access`.
        number: it begins at byte `number * BLOCK_BYTES`, or what the store has for that.
    """

    path: str
    number: int


class Access(NamedTuple):
    """Somebody read some bytes.

    Attributes:
        path: the origin's URL without options, such as `s3://bucket/train/a.npz`,
            `file:///data/a`; see `parts_of`.
        offset, length: which bytes, as asked for, cut at the end of the file.
        stream: who read: the same for all reads of one open file, different for others.
        time_s: when, `time.time` seconds or the simulator's.
        file_bytes: size of the file.
        num_hits: how many of its blocks were there; the others come from the origin.
    """

    path: str
    offset: int
    length: int
    stream: int
    time_s: float
    file_bytes: int
    num_hits: int = 0


class Prefetch(NamedTuple):
    """Blocks worth having before they are asked for.

    Attributes:
        path: the file; the store finds out itself whether there is one.
        first, end: blocks `first` to `end` (exclusive), cut at the end of the file.
        is_background: goes behind everything else, such as the filling of a whole data set.
    """

    path: str
    first: int
    end: int
    is_background: bool = False


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of the name space that is cared for by itself.

    Attributes:
        path: the folder or file at its top.
        verdict: how it is read; policy: what is done about it, in a few words, for people.
        share_bytes: room that it may take, None where none was fixed; used_bytes: what it takes.
        data_bytes: size of all its files, as far as known.
        num_hits, num_misses: blocks that were there and were not.
        saved_s: seconds at the origin that its hits have saved.
        idle_s: since its last use; idle_limit_s: after which its room goes first.
    """

    path: str
    verdict: Verdict
    policy: str = ""
    share_bytes: int | None = None
    used_bytes: int = 0
    data_bytes: int = 0
    num_hits: int = 0
    num_misses: int = 0
    saved_s: float = 0.0
    idle_s: float = 0.0
    idle_limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a path is treated as it is.

    Attributes:
        verdict: of the path's own level; unit: what it is cared for by, None if nothing yet.
        is_provisional: it may still change soon, as little was seen.
        reasons: sentences for people, with the numbers of the tests.
        numbers: the same numbers by name, such as `num_accesses`, `ks_distance`, `ks_limit`.
    """

    path: str
    verdict: Verdict
    unit: Unit | None
    is_provisional: bool = True
    reasons: Sequence[str] = ()
    numbers: dict[str, float] = field(default_factory=dict)


class Advisor(Protocol):
    """Decides about blocks. Called by one thread at a time; every call returns at once.

    Several processes share a store, and each has an advisor of its own. Each hears of the others'
    accesses, blocks stored and blocks removed a little later (`is_ours` is False then), so that all
    come to the same picture.
    """

    def access(self, access: Access, *, is_ours: bool = True) -> Sequence[Prefetch]:
        """Somebody read; what to read ahead now. Of others' accesses nothing is read ahead."""

    def admit(self, block: Block, num_bytes: int, now_s: float, *, is_prefetch: bool) -> bool:
        """Whether a block that came from the origin is worth its room; else it is only passed on.

        Asked before `victims`. `num_bytes` is what it takes, overheads included.
        """

    def stored(self, block: Block, num_bytes: int, now_s: float, *, is_ours: bool = True) -> None:
        """The block is there now. At the start told of all blocks, those used last at the end."""

    def removed(self, block: Block, now_s: float) -> None:
        """The block is gone, whoever wanted that; `now_s` as in `access`."""

    def victims(self, num_bytes: int, now_s: float) -> Iterator[Block]:
        """Blocks in the order in which they should go, to make room for `num_bytes`.

        The store takes as many as it needs and skips those that are pinned; `removed` is told for
        each that went, after the last one was taken.
        """

    def expired(self, now_s: float) -> Sequence[Block]:
        """Blocks that should go even if there is room; asked for every few seconds."""

    def fetched(self, path: str, num_bytes: int, took_s: float) -> None:
        """The origin gave so many bytes of a file in one request that took so long."""

    def listed(self, folder: str, names: Sequence[str]) -> None:
        """A folder's children, in the origin's order; `folder` is a path without a slash at its
        end, `names` are the last parts alone."""

    def resize(self, capacity_bytes: int) -> None:
        """All blocks together may take so much from now on."""

    def units(self, now_s: float) -> Sequence[Unit]:
        """All parts of the name space that are cared for by themselves, topmost first."""

    def explain(self, path: str, now_s: float) -> Explanation:
        """What is known of a path and why."""

    def save(self) -> bytes:
        """What is worth remembering for the next run, such as verdicts."""

    def load(self, saved: bytes) -> None:
        """Takes up what `save` returned in another run; anything else is ignored."""


def parts_of(path: str) -> list[str]:
    """The levels of a path, the mount first: `s3://b/x/y` is `["s3://", "b", "x", "y"]`.

    A path without a scheme has the mount "".
    """
    scheme, mark, rest = path.rpartition("://")
    return [scheme + mark, *(part for part in rest.split("/") if part)]
