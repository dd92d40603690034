"""Sequences that outgrow the context window: the oldest tokens go, the KV of the rest moves up.

A stream is read as if it had always been generated: until the window is full, then on from what
stays of it, whose keys are turned to their new positions. So the KV of a block follows from the
tokens, the cuts and the place where reading began, and has a name that says so. Where to begin is
chosen by what is cached: go on with a window that is there, or compute the text that the last cut
leaves like any other.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from artesian.config.engine import EngineConfig
from artesian.context import ContextCache
from artesian.context.policies import Truncation
from artesian.engine.sequence import ALL_DENSE, Sequence
from artesian.engine.window import Window
from artesian.kvcache.hashing import BlockHasher
from artesian.kvcache.prefix_cache import PrefixCache
from artesian.ops.base import TurningRunner


@dataclass(slots=True)
class TruncationStats:
    """Counters that only grow.

    Attributes:
        num_overflows: full windows whose newer part was moved up.
        num_turned_blocks: blocks that were turned for that; others had been before.
        num_recomputed: sequences that began with the text that a cut left, for want of its KV.
    """

    num_overflows: int = 0
    num_turned_blocks: int = 0
    num_recomputed: int = 0


class Truncator:
    """Moves windows over the streams of sequences that may be truncated."""

    def __init__(
        self,
        cuts: Truncation,
        cache: PrefixCache,
        runner: TurningRunner,
        context: ContextCache | None = None,
        keep_left: bool = True,
    ) -> None:
        """`keep_left`: windows that were left stay cached while room lasts."""
        self.cuts = cuts
        self.stats = TruncationStats()
        self._cache = cache
        self._runner = runner
        self._context = context
        self._keep_left = keep_left

    def enter(self, sequence: Sequence, may_load: bool) -> None:
        """Chooses the window through which a sequence is computed, if its stream needs one.

        Nothing of it is computed yet. `may_load`: what a tier has counts as well.
        """
        num_tokens = sequence.num_stream_tokens
        if num_tokens <= self.cuts.window_tokens or not sequence.state.truncates:
            return
        window, hasher = sequence.window, sequence.state.hasher
        names = list(sequence.exact_hashes) if window is None else window.untruncated
        hasher.extend(names, sequence.stream())
        best = self.choose(hasher, names, num_tokens, may_load)
        overflows = sequence.num_tokens > self.cuts.window_tokens
        if overflows or window is None or not best.is_same(window):
            sequence.look_through(best)

    def choose(
        self, hasher: BlockHasher, names: list[bytes], num_tokens: int, may_load: bool = True
    ) -> Window:
        """The window from which fewest tokens of a stream are to be computed.

        `names` are those of its `num_tokens` tokens if nothing is dropped.
        """
        best, fewest = None, 0
        for window in self._windows(hasher, names, num_tokens):
            rest = window.num_tokens(num_tokens)
            num_found = self._num_found(window, self._num_usable(rest), may_load)
            missing = rest - num_found * self.cuts.block_size_tokens
            if self._suffices(window, num_found) and (best is None or missing < fewest):
                best, fewest = window, missing
        assert best is not None  # the last cut's text can always be computed
        return best

    def can_start(self, sequence: Sequence, num_hits: int) -> bool:
        """Whether so many cached blocks are enough: what has moved cannot be computed in place."""
        return sequence.window is None or self._suffices(sequence.window, num_hits)

    def num_cached_tokens(self, sequence: Sequence, num_hits: int) -> int:
        """Tokens in the prompt's last window that `num_hits` cached blocks of this one hold."""
        window = sequence.window
        if window is None:
            return num_hits * self.cuts.block_size_tokens
        sinks = min(num_hits, self.cuts.sink_blocks)
        last = self.cuts.cut(sequence.num_prompt_tokens)
        ahead = self.cuts.dropped_blocks(last) - self.cuts.dropped_blocks(window.cut)
        return (sinks + max(num_hits - sinks - ahead, 0)) * self.cuts.block_size_tokens

    def note_start(self, sequence: Sequence) -> None:
        """A sequence runs for the first time."""
        window = sequence.window
        self.stats.num_recomputed += window is not None and 0 < window.cut == window.start

    def is_full(self, sequence: Sequence) -> bool:
        """Whether the window is computed to its end and tokens go on behind it."""
        return (
            sequence.num_computed == self.cuts.window_tokens
            and sequence.num_computed < sequence.num_tokens + sequence.num_hidden
            and sequence.state.truncates
        )

    def has_room(self, sequence: Sequence) -> bool:
        """Whether there are blocks to `move_on`, and then for what the window is to hold."""
        cuts, cache = self.cuts, self._cache
        known = cache.lookup(self._moved_names(sequence, _window_of(sequence, cuts).next()))
        num_free = cache.num_available_blocks - cache.num_idle(known)
        behind = sequence.blocks[cuts.sink_blocks :]
        num_free += cache.num_sole(behind[: cuts.step_blocks])
        num_turned = cuts.turned_blocks - len(known)
        num_tokens = sequence.num_tokens + sequence.num_hidden - cuts.dropped_tokens(1)
        num_blocks = -(-min(num_tokens, cuts.window_tokens) // cuts.block_size_tokens)
        num_more = num_blocks - cuts.sink_blocks - cuts.turned_blocks
        num_given_back = cache.num_sole(behind[cuts.step_blocks :])
        return num_turned <= num_free and num_turned + num_more <= num_free + num_given_back

    def move_on(self, sequence: Sequence) -> None:
        """Drops the oldest blocks of a full window and turns the others to their new positions.

        Behind it, the sequence's first blocks are computed and have names.
        """
        cuts, cache = self.cuts, self._cache
        window = _window_of(sequence, cuts).next()
        names = self._moved_names(sequence, window)
        sinks, behind = sequence.blocks[: cuts.sink_blocks], sequence.blocks[cuts.sink_blocks :]
        dropped, sources = behind[: cuts.step_blocks], behind[cuts.step_blocks :]
        known = cache.lookup(names)
        cache.acquire(known)
        cache.release(dropped, self._keep_left)
        fresh = [cache.allocate() for _ in names[len(known) :]]
        if fresh:
            delta = -cuts.step_blocks * cuts.block_size_tokens
            self._runner.turn(sources[len(known) :], fresh, delta)
        named = [cache.name(*pair) for pair in zip(fresh, names[len(known) :], strict=True)]
        cache.release(sources, self._keep_left)
        sequence.look_through(window)
        sequence.num_dense_blocks = self._num_dense_moved(sequence)
        sequence.blocks = [*sinks, *known, *named]
        sequence.num_named = len(sequence.blocks)
        sequence.num_computed = sequence.num_named * cuts.block_size_tokens
        sequence.num_saved = 0
        sequence.extend_hashes(sequence.num_tokens)
        self.stats.num_overflows += 1
        self.stats.num_turned_blocks += len(fresh)

    def _windows(
        self, hasher: BlockHasher, names: list[bytes], num_tokens: int
    ) -> Iterator[Window]:
        """All that the stream may be entered through, the one that needs no other first."""
        for cut in self.cuts.entries(num_tokens):
            for start in range(cut, -1, -1):
                yield Window(self.cuts, hasher, start, cut, names)

    def _num_usable(self, num_tokens: int) -> int:
        """Blocks of a window with so many tokens in and behind it that may be cached: not the last
        token's."""
        return (min(num_tokens, self.cuts.window_tokens) - 1) // self.cuts.block_size_tokens

    def _num_found(self, window: Window, num_usable: int, may_load: bool) -> int:
        """How many of a window's first blocks are cached."""
        first = min(self.cuts.sink_blocks + 1, num_usable)  # most windows end here
        for count in (first, num_usable):
            names = [window.name(index) for index in range(count)]
            num_found = len(self._cache.lookup(names))
            if may_load and self._context is not None:
                num_found += sum(self._context.find(names[num_found:]).values())
            if num_found < count:
                break
        return num_found

    def _suffices(self, window: Window, num_blocks: int) -> bool:
        moved = self.cuts.sink_blocks + self.cuts.turned_blocks
        return not window.has_moved or num_blocks >= moved

    def _moved_names(self, sequence: Sequence, window: Window) -> list[bytes]:
        """Names of the blocks that the sequence's next overflow puts into a window."""
        first, num_dense = self.cuts.sink_blocks, self._num_dense_moved(sequence)
        kind = sequence.state.kind
        return [
            (kind.dense_name if index < num_dense else kind.sparse_name)(window.name(index))
            for index in range(first, first + self.cuts.turned_blocks)
        ]

    def _num_dense_moved(self, sequence: Sequence) -> int:
        """What the sequence's `num_dense_blocks` is when its window moves on."""
        num_dense, sinks = sequence.num_dense_blocks, self.cuts.sink_blocks
        if num_dense == ALL_DENSE or num_dense <= sinks:
            return num_dense
        return max(num_dense - self.cuts.step_blocks, sinks)


def _window_of(sequence: Sequence, cuts: Truncation) -> Window:
    """The sequence's window, also if it is the first one still: all of its blocks have names."""
    if sequence.window is not None:
        return sequence.window
    return Window(cuts, sequence.state.hasher, 0, 0, list(sequence.exact_hashes))


def open_truncator(
    config: EngineConfig,
    max_model_len: int,
    cache: PrefixCache,
    runner: TurningRunner,
    context: ContextCache | None,
) -> Truncator | None:
    """None where windows are too small to be truncated.

    Raises:
        ValueError: they are, and `config.context_overflow` asks for it.
    """
    try:
        cuts = Truncation.of_window(max_model_len, config.block_size, config.context_sinks)
    except ValueError:
        if config.context_overflow == "truncate":
            raise
        return None
    return Truncator(cuts, cache, runner, context, config.enable_prefix_caching)
