"""A context that is read once, and sequences that go on from it in ways of their own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from artesian.engine.batch import I32, Batch
from artesian.eval.kept import Kept
from artesian.eval.ways import Way
from artesian.kvcache import Arena
from artesian.loader import Checkpoint
from artesian.loader.native import NativeRunner
from artesian.ops.base import F32, KvDtype, KvLayout, KvSummaries
from artesian.ops.native import Isa, default_kv_dtype, kv_block_bytes
from artesian.skip import SkipSet

BLOCK_TOKENS = 32
_CHUNK_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Room:
    """What a session has memory for; pages are only backed once they are written.

    Attributes:
        context_tokens: longest context.
        num_forks: sequences that go on from it at once.
        tail_tokens: most tokens that each goes on for.
        num_copies: sequences that go on from copies of its KV, as different requests would.
    """

    context_tokens: int
    num_forks: int
    tail_tokens: int
    num_copies: int = 0

    @property
    def context_blocks(self) -> int:
        """Blocks of the context."""
        return -(-self.context_tokens // BLOCK_TOKENS)

    @property
    def tail_blocks(self) -> int:
        """Blocks behind the context's full ones."""
        return -(-(self.tail_tokens + BLOCK_TOKENS - 1) // BLOCK_TOKENS)

    @property
    def num_blocks(self) -> int:
        """All blocks: of the context, of tails, of copies."""
        copies = self.num_copies * (self.context_blocks + self.tail_blocks)
        return self.context_blocks + self.num_forks * self.tail_blocks + copies


@dataclass(slots=True)
class Fork:
    """A sequence that goes on from the context: its way, its blocks, its tokens so far.

    Attributes:
        kept: what it attended to since it was made.
    """

    way: Way
    blocks: I32
    num_tokens: int
    kept: Kept = field(default_factory=Kept)


@dataclass(frozen=True, slots=True)
class Forcing:
    """What is wanted of tokens that forks read.

    Attributes:
        first: logits of each fork's tokens from this one on; of all when None.
        audit_every: so many steps from one audit to the next; 0 for none.
    """

    first: Sequence[int] | None = None
    audit_every: int = 0


FORCING = Forcing()
"""All logits, and no audit."""


class Session:
    """Runs one model over one context at a time.

    Args:
        checkpoint: the model.
        room: sizes.
        num_threads: kernel threads.
        isa: instruction set; the best of this machine when None.
        kv_dtype: how KV is stored; what attention is fastest in when None.
        summaries: of keys, by which is chosen what is attended to.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        room: Room,
        *,
        num_threads: int,
        isa: Isa | None = None,
        kv_dtype: KvDtype | None = None,
        summaries: KvSummaries = "cuboid",
    ) -> None:
        config = checkpoint.config
        self.layout = KvLayout(
            config.num_layers,
            config.num_kv_heads,
            config.head_dim,
            BLOCK_TOKENS,
            kv_dtype or default_kv_dtype(isa),
            summaries,
        )
        self._heads_per_group = config.num_heads // config.num_kv_heads
        self._room = room
        self._arena = Arena(room.num_blocks, kv_block_bytes(self.layout))
        self._blocks = self._arena.memory.reshape(room.num_blocks, -1)
        self.runner = NativeRunner(
            checkpoint,
            self.layout,
            self._arena.memory,
            max_rows=max(_CHUNK_TOKENS, room.num_forks, room.num_copies),
            num_threads=num_threads,
            isa=isa,
        )
        self._tokens: list[int] = []
        self._skip = SkipSet()

    @property
    def num_context_tokens(self) -> int:
        """Tokens of the context that was read last."""
        return len(self._tokens)

    @property
    def num_forks(self) -> int:
        """Sequences that can go on from it at once."""
        return self._room.num_forks

    @property
    def skip(self) -> SkipSet:
        """What was left out when the context was read."""
        return self._skip

    def clear(self) -> None:
        """Forgets all contexts: KV is zeros, whose pages are there, for timing."""
        self._arena.memory[:] = 0
        self._tokens = []

    def read(self, tokens: Sequence[int], skip: SkipSet | None = None) -> None:
        """Makes `tokens` the context; what it begins with like the last one is kept.

        Raises:
            ValueError: it is longer than there is room for.
        """
        skip = skip or SkipSet()
        if len(tokens) > self._room.context_tokens:
            raise ValueError(f"{len(tokens)} tokens in room for {self._room.context_tokens}")
        same = _num_common(self._tokens, tokens) if skip == self._skip else 0
        table = np.arange(self._room.context_blocks, dtype=np.int32)[None]
        start = same // BLOCK_TOKENS * BLOCK_TOKENS
        self._tokens, self._skip = list(tokens), skip
        for first in range(start, len(tokens), _CHUNK_TOKENS):
            piece = np.asarray(tokens[first : first + _CHUNK_TOKENS], np.int32)
            end = first + len(piece)
            self.runner.forward(
                Batch(
                    tokens=piece,
                    positions=np.arange(first, end, dtype=np.int32),
                    row_starts=np.asarray([0, len(piece)], np.int32),
                    context_lens=np.asarray([end], np.int32),
                    block_tables=table,
                    logit_rows=np.empty(0, np.int32),
                    skips=[(0, skip)] if skip.sublayers else (),
                )
            )

    def forks(self, ways: Sequence[Way]) -> list[Fork]:
        """Sequences that share the context's KV; forks made before are void.

        Raises:
            ValueError: there are more than there is room for, or one skips what the context's
                reader did not.
        """
        room = self._room
        if len(ways) > room.num_forks:
            raise ValueError(f"{len(ways)} forks in room for {room.num_forks}")
        full, rest = divmod(len(self._tokens), BLOCK_TOKENS)
        shared = np.arange(full, dtype=np.int32)
        made = []
        for number, way in enumerate(ways):
            if way.skip != self._skip:
                raise ValueError(f"the context was not read as {way.name} reads it")
            first = room.context_blocks + number * room.tail_blocks
            own = np.arange(first, first + room.tail_blocks, dtype=np.int32)
            if rest:
                self._blocks[first] = self._blocks[full]
            made.append(Fork(way, np.concatenate([shared, own]), len(self._tokens)))
        return made

    def copies(self, way: Way, count: int) -> list[Fork]:
        """Sequences of one way with KV of their own; copies made before are void.

        Raises:
            ValueError: there are more than there is room for.
        """
        room = self._room
        if count > room.num_copies:
            raise ValueError(f"{count} copies in room for {room.num_copies}")
        size = room.context_blocks + room.tail_blocks
        used = -(-len(self._tokens) // BLOCK_TOKENS)
        made = []
        for number in range(count):
            first = room.context_blocks + room.num_forks * room.tail_blocks + number * size
            self._blocks[first : first + used] = self._blocks[:used]
            blocks = np.arange(first, first + size, dtype=np.int32)
            made.append(Fork(way, blocks, len(self._tokens)))
        return made

    def step(
        self,
        forks: Sequence[Fork],
        tokens: Sequence[int],
        wanted: Sequence[int] | None = None,
        audit: bool = False,
    ) -> F32:
        """Gives each fork one more token.

        Args:
            forks: sequences, each once.
            tokens: a token for each.
            wanted: which of them logits are wanted of; all when None.
            audit: whether to look at the weight of what is left out, too.

        Returns:
            float32 (len(wanted), vocab_size), what may follow.

        Raises:
            ValueError: a fork has no room left.
        """
        num_blocks = max(fork.num_tokens for fork in forks) // BLOCK_TOKENS + 1
        if any(fork.num_tokens // BLOCK_TOKENS >= len(fork.blocks) for fork in forks):
            raise ValueError(f"a fork has room for {self._room.tail_tokens} tokens")
        tables = np.zeros((len(forks), num_blocks), np.int32)
        for row, fork in zip(tables, forks, strict=True):
            row[: len(fork.blocks)] = fork.blocks[:num_blocks]
        positions = np.asarray([fork.num_tokens for fork in forks], np.int32)
        ways = [fork.way for fork in forks]
        batch = Batch(
            tokens=np.asarray(tokens, np.int32),
            positions=positions,
            row_starts=np.arange(len(forks) + 1, dtype=np.int32),
            context_lens=positions + 1,
            block_tables=tables,
            logit_rows=np.asarray(range(len(forks)) if wanted is None else wanted, np.int32),
            sparse=[(i, w.attention) for i, w in enumerate(ways) if not w.attention.is_exact],
            skips=[(i, w.skip) for i, w in enumerate(ways) if w.skip.sublayers],
            audit=audit,
        )
        logits = self.runner.forward(batch)
        for fork in forks:
            fork.num_tokens += 1
        for report in batch.reports:
            forks[report.sequence].kept.add(report, self._heads_per_group)
        return logits

    def force(
        self, forks: Sequence[Fork], tails: Sequence[Sequence[int]], options: Forcing = FORCING
    ) -> Iterator[tuple[int, list[int], F32]]:
        """Lets forks read tokens, each its own, one a step.

        Yields:
            the number of the step, which forks have logits in it, and these, a row each.
        """
        first, every = options.first, options.audit_every
        for number in range(max((len(tokens) for tokens in tails), default=0)):
            here = [i for i, tokens in enumerate(tails) if number < len(tokens)]
            rows = [r for r, i in enumerate(here) if first is None or number >= first[i]]
            step_tokens = [tails[i][number] for i in here]
            audit = every > 0 and number % every == 0
            logits = self.step([forks[i] for i in here], step_tokens, rows, audit)
            if rows:
                yield number, [here[row] for row in rows], logits


def log_probabilities(logits: F32) -> F32:
    """Log of the softmax of each row."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True, dtype=np.float64)
    result: F32 = shifted - np.log(total).astype(np.float32)
    return result


def _num_common(first: Sequence[int], second: Sequence[int]) -> int:
    length = min(len(first), len(second))
    differs = np.flatnonzero(
        np.asarray(first[:length], np.int64) != np.asarray(second[:length], np.int64)
    )
    return int(differs[0]) if len(differs) else length
