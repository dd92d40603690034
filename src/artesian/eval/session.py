"""A context that is read once, and sequences that go on from it in ways of their own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from artesian.engine.batch import I32, Batch
from artesian.eval.ways import Way
from artesian.kvcache import Arena
from artesian.loader import Checkpoint
from artesian.loader.native import NativeRunner
from artesian.ops.base import F32, KvDtype, KvLayout
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
        own_blocks: each fork has a copy of the context's KV, as different requests would have,
            instead of sharing it: for timing.
    """

    context_tokens: int
    num_forks: int
    tail_tokens: int
    own_blocks: bool = False

    @property
    def context_blocks(self) -> int:
        """Blocks of the context."""
        return -(-self.context_tokens // BLOCK_TOKENS)

    @property
    def fork_blocks(self) -> int:
        """Blocks of a fork that it does not share."""
        tail = -(-(self.tail_tokens + BLOCK_TOKENS - 1) // BLOCK_TOKENS)
        return tail + (self.context_blocks if self.own_blocks else 0)


@dataclass(slots=True)
class Fork:
    """A sequence that goes on from the context: its way, its blocks, its tokens so far."""

    way: Way
    blocks: I32
    num_tokens: int


class Session:
    """Runs one model over one context at a time.

    Args:
        checkpoint: the model.
        room: sizes.
        num_threads: kernel threads.
        isa: instruction set; the best of this machine when None.
        kv_dtype: how KV is stored; what attention is fastest in when None.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        room: Room,
        *,
        num_threads: int,
        isa: Isa | None = None,
        kv_dtype: KvDtype | None = None,
    ) -> None:
        config = checkpoint.config
        self.layout = KvLayout(
            config.num_layers,
            config.num_kv_heads,
            config.head_dim,
            BLOCK_TOKENS,
            kv_dtype or default_kv_dtype(isa),
        )
        self._room = room
        num_blocks = room.context_blocks + room.num_forks * room.fork_blocks
        self._arena = Arena(num_blocks, kv_block_bytes(self.layout))
        self._blocks = self._arena.memory.reshape(num_blocks, -1)
        self.runner = NativeRunner(
            checkpoint,
            self.layout,
            self._arena.memory,
            max_rows=max(_CHUNK_TOKENS, room.num_forks),
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
        """Sequences that go on from the context; forks made before are void.

        Raises:
            ValueError: there are more than there is room for, or one skips what the context's
                reader did not.
        """
        room = self._room
        if len(ways) > room.num_forks:
            raise ValueError(f"{len(ways)} forks in room for {room.num_forks}")
        full, rest = divmod(len(self._tokens), BLOCK_TOKENS)
        made = []
        for number, way in enumerate(ways):
            if way.skip != self._skip:
                raise ValueError(f"the context was not read as {way.name} reads it")
            first = room.context_blocks + number * room.fork_blocks
            own = np.arange(first, first + room.fork_blocks, dtype=np.int32)
            if room.own_blocks:
                num_copied = full + (rest > 0)
                self._blocks[first : first + num_copied] = self._blocks[:num_copied]
                made.append(Fork(way, own, len(self._tokens)))
                continue
            if rest:
                self._blocks[first] = self._blocks[full]
            shared = np.arange(full, dtype=np.int32)
            made.append(Fork(way, np.concatenate([shared, own]), len(self._tokens)))
        return made

    def step(
        self, forks: Sequence[Fork], tokens: Sequence[int], wanted: Sequence[int] | None = None
    ) -> F32:
        """Gives each fork one more token.

        Args:
            forks: sequences, each once.
            tokens: a token for each.
            wanted: which of them logits are wanted of; all when None.

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
        logits = self.runner.forward(
            Batch(
                tokens=np.asarray(tokens, np.int32),
                positions=positions,
                row_starts=np.arange(len(forks) + 1, dtype=np.int32),
                context_lens=positions + 1,
                block_tables=tables,
                logit_rows=np.asarray(range(len(forks)) if wanted is None else wanted, np.int32),
                sparse=[(i, w.attention) for i, w in enumerate(ways) if not w.attention.is_exact],
                skips=[(i, w.skip) for i, w in enumerate(ways) if w.skip.sublayers],
            )
        )
        for fork in forks:
            fork.num_tokens += 1
        return logits

    def force(
        self, tails: Sequence[tuple[Way, Sequence[int]]], first: Sequence[int] | None = None
    ) -> Iterator[tuple[int, list[int], F32]]:
        """Lets forks read tokens, each its own, one a step.

        Args:
            tails: a way and its tokens, for each fork.
            first: logits are wanted of each fork's tokens from this one on; of all when None.

        Yields:
            the number of the step, which of `tails` have logits in it, and these, a row each.
        """
        forks = self.forks([way for way, _ in tails])
        for number in range(max((len(tokens) for _, tokens in tails), default=0)):
            here = [i for i, (_, tokens) in enumerate(tails) if number < len(tokens)]
            rows = [r for r, i in enumerate(here) if first is None or number >= first[i]]
            step_tokens = [tails[i][1][number] for i in here]
            logits = self.step([forks[i] for i in here], step_tokens, rows)
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
