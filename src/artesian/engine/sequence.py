"""The state of requests and of their sequences while the engine runs them."""

import sys
from enum import Enum, auto

import numpy as np
import numpy.typing as npt

from artesian.attention import SparseAttention
from artesian.attention.policies import DenseFallback
from artesian.context.loader import Onboarding
from artesian.context.sessions.record import tenant_of
from artesian.engine.approximation import NOTHING_LEFT_OUT, Approximation
from artesian.engine.base import (
    OutputLogprobs,
    Request,
    RequestMetrics,
    SamplingParams,
)
from artesian.engine.detokenizer import Detokenizer
from artesian.engine.drafts import Drafts
from artesian.engine.handover import LandingWriter
from artesian.engine.landing import Landing, RemotePlace
from artesian.engine.stop import StopStrings
from artesian.engine.window import Window
from artesian.kvcache.hashing import BlockHasher
from artesian.skip import OnlineExtension

Rank = tuple[int, int, int]
"""(priority, arrival, index): lower runs first."""

_SPARE_TOKENS = 64
ALL_DENSE = sys.maxsize
"""No token has attended to less than everything so far."""


class Status(Enum):
    """Where a sequence is: waiting also after a preemption."""

    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()


class RequestState:
    """What the sequences of one request share.

    Attributes:
        is_job: it is a prompt that is computed for a peer, and has no answer; writer: where its KV
        goes, unless it stays.
        approximation: what its sequences leave out; kind: of the KV that comes from that.
    """

    __slots__ = (
        "approximation",
        "arrival",
        "arrival_s",
        "deadline_s",
        "first_scheduled_s",
        "hasher",
        "is_job",
        "kind",
        "metrics",
        "num_cached_tokens",
        "num_prompt_tokens",
        "request",
        "sequences",
        "tenant",
        "truncates",
        "writer",
    )

    def __init__(
        self,
        request: Request,
        arrival: int,
        now: float,
        hasher: BlockHasher,
        truncates: bool = False,
        approximation: Approximation = NOTHING_LEFT_OUT,
    ) -> None:
        self.request = request
        self.arrival = arrival
        self.arrival_s = now
        self.deadline_s = None if request.timeout_s is None else now + request.timeout_s
        self.first_scheduled_s: float | None = None
        self.hasher = hasher
        self.metrics = RequestMetrics()
        self.num_cached_tokens = 0
        self.num_prompt_tokens = len(request.prompt_token_ids)
        self.tenant = tenant_of(request.cache_salt)
        self.sequences: list[Sequence] = []
        self.truncates = truncates
        self.approximation = approximation
        self.kind = approximation.kind
        self.is_job = False
        self.writer: LandingWriter | None = None


class Sequence:
    """One token stream: the prompt and what was generated behind it.

    All but the tokens of a long stream that is truncated are in `tokens`; there is a `window` then.

    Attributes:
        num_tokens: prompt and output, with a window what stands in it; num_computed: of these, the
        ones whose KV is stored.
        blocks: arena blocks of the sequence, the first `num_named` of them findable by others.
        hashes: names of full blocks, worked out no further than needed; exact_hashes: what they
        would be if nothing was left out: the same list if that is so.
        num_dense_blocks: the first blocks, up to whose end every token attended to everything.
        attends: how its row of this step attends; None: to everything. fallback: when it attends
        to everything although it need not. skip: sublayers that it leaves out;
        extends_at: tokens behind which it leaves out more, as online has found, whose KV is its own
        from the end of its prompt on; None: it does not.
        max_tokens: prompt plus output at which it ends.
        is_plain_greedy: the next token is simply the most likely one; has_penalties: earlier tokens
        or biases change the logits.
        waits_for: name of a block that another sequence is computing now.
        onboarding: blocks of this sequence that a tier is sending, while it waits for them or
        computes its first step over them; num_onboardings: how often it has asked a tier.
        landing: blocks that a peer writes, while the sequence waits for them; num_landings: how
        often it has asked peers; place: the peer that has its KV and attends for it: it has no
        blocks here then; last_region: memory of the last such peer.
        tail: blocks that a tier is sending while the sequence computes those before them, up to the
        `reach`.
        dropped: tokens that stood before the window, behind its sinks; num_hidden: tokens of a
        prompt behind the window, in `tokens` behind the others; left: names of blocks in windows
        that it has left.
        drafts: guesses at the next tokens; None: it never guesses.
    """

    __slots__ = (
        "attends",
        "bias_ids",
        "bias_values",
        "blocks",
        "detokenizer",
        "drafts",
        "dropped",
        "exact_hashes",
        "extends_at",
        "fallback",
        "has_penalties",
        "hashes",
        "index",
        "is_plain_greedy",
        "landing",
        "last_region",
        "left",
        "max_tokens",
        "num_computed",
        "num_dense_blocks",
        "num_hidden",
        "num_landings",
        "num_named",
        "num_onboardings",
        "num_prompt_tokens",
        "num_saved",
        "num_tokens",
        "onboarding",
        "online",
        "place",
        "prompt_logprobs",
        "rank",
        "sampling",
        "seed",
        "skip",
        "slot",
        "state",
        "status",
        "stop_strings",
        "stop_token_ids",
        "tail",
        "tokens",
        "waits_for",
        "window",
    )

    def __init__(
        self,
        state: RequestState,
        index: int,
        seed: int,
        max_tokens: int,
        stop_token_ids: frozenset[int],
        detokenizer: Detokenizer,
    ) -> None:
        request = state.request
        self.state = state
        self.index = index
        self.rank: Rank = (request.priority, state.arrival, index)
        self.sampling: SamplingParams = request.sampling
        self.seed = seed
        self.max_tokens = max_tokens
        self.stop_token_ids = stop_token_ids
        self.detokenizer = detokenizer
        self.stop_strings = StopStrings(
            request.sampling.stop, request.sampling.include_stop_str_in_output
        )
        self.num_prompt_tokens = len(request.prompt_token_ids)
        self.num_tokens = self.num_prompt_tokens
        capacity = self.num_tokens + _SPARE_TOKENS
        self.tokens: npt.NDArray[np.int32] = np.empty(capacity, np.int32)
        self.tokens[: self.num_tokens] = request.prompt_token_ids
        self.window: Window | None = None
        self.drafts: Drafts | None = None
        self.left: list[bytes] = []
        self.dropped: npt.NDArray[np.int32] = np.empty(0, np.int32)
        self.num_hidden = 0
        self.num_computed = 0
        self.num_named = 0
        self.num_saved = 0
        self.blocks: list[int] = []
        self.exact_hashes: list[bytes] = []
        self.hashes: list[bytes] = self.exact_hashes if state.kind.is_exact else []
        self.num_dense_blocks = ALL_DENSE
        self.attends: SparseAttention | None = None
        self.fallback: DenseFallback | None = None
        self.skip = state.approximation.skip
        num_watched = 0 if state.truncates else state.approximation.num_watched
        self.extends_at = state.num_prompt_tokens + num_watched if num_watched else None
        self.online: OnlineExtension | None = None
        self.slot = -1
        self.status = Status.WAITING
        self.waits_for: bytes | None = None
        self.onboarding: Onboarding | None = None
        self.tail: Onboarding | None = None
        self.landing: Landing | None = None
        self.place: RemotePlace | None = None
        self.last_region = ""
        self.num_landings = 0
        self.num_onboardings = 0
        bias = request.sampling.logit_bias
        self.bias_ids = np.fromiter(bias.keys(), np.int32, len(bias))
        self.bias_values = np.fromiter(bias.values(), np.float32, len(bias))
        self.has_penalties = _has_penalties(request.sampling)
        self.is_plain_greedy = (
            request.sampling.temperature == 0
            and not self.has_penalties
            and request.sampling.logprobs is None
            and request.sampling.min_tokens == 0
        )
        wants_prompt = request.sampling.prompt_logprobs is not None and not request.output_token_ids
        self.prompt_logprobs: list[OutputLogprobs | None] | None = [None] if wants_prompt else None

    @property
    def num_output_tokens(self) -> int:
        """Tokens generated so far, those of an earlier worker included."""
        return self.num_stream_tokens - self.num_prompt_tokens

    @property
    def num_stream_tokens(self) -> int:
        """Prompt and output, whether or not the window holds them."""
        return self.num_tokens + self.num_hidden + len(self.dropped)

    @property
    def num_shown_prompt_tokens(self) -> int:
        """Tokens of the prompt in the window."""
        if self.window is None:
            return self.num_prompt_tokens
        sinks = min(self.window.truncation.sink_tokens, self.num_prompt_tokens)
        return sinks + max(self.num_prompt_tokens - sinks - len(self.dropped), 0)

    def reach(self, block_size: int) -> int:
        """Tokens that it is going to compute before something else happens."""
        return self.num_tokens if self.tail is None else self.tail.num_before * block_size

    @property
    def needs_prompt_logprobs(self) -> bool:
        """Whether log probabilities of the prompt are still to be computed."""
        return (
            self.prompt_logprobs is not None and len(self.prompt_logprobs) < self.num_prompt_tokens
        )

    def append(self, token_id: int) -> None:
        """Adds a generated token."""
        self._put(self.num_tokens, token_id)
        self.num_tokens += 1

    def draft(self, token_id: int) -> None:
        """Adds a guess."""
        assert self.drafts is not None
        self._put(self.num_tokens + self.drafts.num, token_id)
        self.drafts.num += 1

    def _put(self, index: int, token_id: int) -> None:
        if index == len(self.tokens):
            grown = np.empty(2 * len(self.tokens), np.int32)
            grown[:index] = self.tokens
            self.tokens = grown
        self.tokens[index] = token_id

    def stream(self) -> npt.NDArray[np.int32]:
        """All tokens, whether or not the window holds them."""
        end = self.num_tokens + self.num_hidden
        if self.window is None:
            return self.tokens[:end]
        sinks = self.window.truncation.sink_tokens
        return np.concatenate([self.tokens[:sinks], self.dropped, self.tokens[sinks:end]])

    def look_through(self, window: Window) -> None:
        """From now on the window holds what it holds at that cut, of which nothing has a name."""
        stream = self.stream()
        sinks, most = window.truncation.sink_tokens, window.truncation.window_tokens
        end = sinks + window.truncation.dropped_tokens(window.cut)
        num_shown = len(stream) - end + sinks
        self.window = window
        self.left += self.hashes
        self.exact_hashes = []
        self.hashes = self.exact_hashes if self.state.kind.is_exact else []
        self.dropped = stream[sinks:end].copy()
        self.num_tokens = min(num_shown, most)
        self.num_hidden = num_shown - self.num_tokens
        self.tokens = np.empty(num_shown + _SPARE_TOKENS, np.int32)
        self.tokens[:sinks] = stream[:sinks]
        self.tokens[sinks:num_shown] = stream[end:]

    def extend_hashes(self, num_tokens: int) -> None:
        """Works out the names of the full blocks among the first `num_tokens` tokens."""
        if self.extends_at is not None:
            num_tokens = min(num_tokens, self.num_prompt_tokens)
        if self.window is None:
            self.state.hasher.extend(self.exact_hashes, self.tokens[:num_tokens])
        else:
            self.window.extend(self.exact_hashes, self.tokens[:num_tokens])
        if self.hashes is not self.exact_hashes:
            for index in range(len(self.hashes), len(self.exact_hashes)):
                self.hashes.append(self.name_of(index, self.exact_hashes[index]))

    def name_of(self, index: int, exact: bytes) -> bytes:
        """Name of block `index`, which would be `exact` if nothing was left out."""
        kind = self.state.kind
        is_dense = index < self.num_dense_blocks
        return kind.dense_name(exact) if is_dense else kind.sparse_name(exact)

    def set_dense_blocks(self, num_blocks: int) -> None:
        """So many first blocks have been computed with attention to everything, or will be."""
        first = min(num_blocks, self.num_dense_blocks)
        if num_blocks != self.num_dense_blocks:
            self.num_dense_blocks = num_blocks
            if self.hashes is not self.exact_hashes and first < len(self.hashes):
                del self.hashes[first:]
                for index in range(first, len(self.exact_hashes)):
                    self.hashes.append(self.name_of(index, self.exact_hashes[index]))


def has_answer(sequence: Sequence, end: int) -> bool:
    """Whether a token is chosen behind the first `end`: not within a prompt, nor for a peer."""
    is_complete = end == sequence.num_tokens and not sequence.num_hidden
    return is_complete and not sequence.state.is_job


def _has_penalties(sampling: SamplingParams) -> bool:
    """Whether earlier tokens or biases change the logits."""
    return (
        sampling.repetition_penalty != 1
        or sampling.presence_penalty != 0
        or sampling.frequency_penalty != 0
        or bool(sampling.logit_bias)
    )
