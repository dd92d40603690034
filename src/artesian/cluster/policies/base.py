"""What the policies of a cluster see, and what each decides.

No policy does I/O or has a clock. The live cluster, the simulator and the tests run the same ones.
Seconds are predictions of whoever makes the observation; 0 says that nothing is known yet.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Role = Literal["both", "prefill", "decode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLoad:
    """A worker as it was seen a moment ago.

    Attributes:
        worker_id: names it among all workers of all times.
        role: what is sent to it; it can do everything.
        is_available: takes new work: it is neither dead, nor starting, nor draining.
        num_running, num_waiting: sequences; jobs for peers count too.
        num_free_slots: sequences that could join the running ones.
        queued_tokens: of prompts, that are still to be computed.
        used_blocks, free_blocks: of its KV; cached ones that may go are free.
        block_size_tokens: of one block.
        step_s: a decode step with the sequences that run now.
        token_s: computing one token of a prompt.
    """

    worker_id: str
    role: Role = "both"
    is_available: bool = True
    num_running: int = 0
    num_waiting: int = 0
    num_free_slots: int = 1
    queued_tokens: int = 0
    used_blocks: int = 0
    free_blocks: int = 1 << 20
    block_size_tokens: int = 32
    step_s: float = 0.0
    token_s: float = 0.0

    @property
    def queue_s(self) -> float:
        """Until what is queued to prefill is computed."""
        return self.queued_tokens * self.token_s

    @property
    def num_sequences(self) -> int:
        """Running and waiting."""
        return self.num_running + self.num_waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestView:
    """A request as a policy sees it.

    Attributes:
        num_prompt_tokens: all of its prompt.
        num_output_tokens: expected of its answer, or allowed.
        cached_tokens: first tokens of the prompt whose KV is there, by worker, as far as known.
        priority: lower ones run first; those below 0 overtake what waits.
        key: session or client, whose requests had better stay together; empty: none.
    """

    num_prompt_tokens: int
    num_output_tokens: int = 128
    cached_tokens: Mapping[str, int] = field(default_factory=dict)
    priority: int = 0
    key: str = ""

    def num_uncached(self, worker_id: str) -> int:
        """Tokens that this worker would have to compute, the last one of the prompt at least."""
        return max(1, self.num_prompt_tokens - self.cached_tokens.get(worker_id, 0))


class Router(ABC):
    """Which worker a request is sent to. It keeps no placements: any worker reaches any block."""

    @abstractmethod
    def choose(self, request: RequestView, workers: Sequence[WorkerLoad]) -> str | None:
        """Id of an available worker, or None when there is none.

        Workers that decode come first; those that only prefill are better than none.
        """


class PrefillDecodeMap(ABC):
    """Which worker computes a prompt for the worker that decodes it."""

    @abstractmethod
    def choose(
        self, request: RequestView, decode: WorkerLoad, workers: Sequence[WorkerLoad]
    ) -> str | None:
        """Id of an available worker of role `prefill`, or None when there is none but itself."""


class Disaggregation(ABC):
    """Whether a prompt is computed by a peer, or where it is decoded."""

    @abstractmethod
    def wants_peer(
        self, num_uncached: int, decode: WorkerLoad, peers: Sequence[WorkerLoad] = ()
    ) -> bool:
        """True: a peer should compute `num_uncached` tokens for `decode`.

        Args:
            peers: those that prefill, if the caller sees them; without, they are taken for idle and
                as fast as `decode`.
        """


@dataclass(frozen=True, slots=True)
class RoleChange:
    """A worker gets another role."""

    worker_id: str
    role: Role


class RoleBalancer(ABC):
    """When a worker should change its role. It remembers what it saw; times do not go back."""

    @abstractmethod
    def decide(self, workers: Sequence[WorkerLoad], now: float) -> RoleChange | None:
        """One change at a time, or None. Call it at regular intervals."""


class OffloadedSequence(NamedTuple):
    """A running sequence whose KV is with a peer.

    Attributes:
        num_tokens: of its KV now; max_tokens: when it is as long as it may become.
    """

    request_id: str
    num_tokens: int
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeBatch:
    """The sequences that a worker decodes: here, and with attention at a peer."""

    local_seqs: int = 0
    local_tokens: int = 0
    offloaded: Sequence[OffloadedSequence] = ()

    @property
    def offloaded_seqs(self) -> int:
        """Sequences with attention at a peer."""
        return len(self.offloaded)

    @property
    def offloaded_tokens(self) -> int:
        """KV at the peer."""
        return sum(sequence.num_tokens for sequence in self.offloaded)

    @property
    def reserved_tokens(self) -> int:
        """KV at the peer, once its sequences are as long as they may become."""
        return sum(sequence.max_tokens for sequence in self.offloaded)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadLimits:
    """What a peer's executor can take, as it is now.

    Attributes:
        ratio: OB, offloaded to local at most (see `offload_bound`); 0: nothing.
        kv_bytes: of one token.
        executor_bytes_per_s, decode_bytes_per_s: at which attention reads KV there and here; the
            guard needs both, and is passed over while one is 0.
        sync_s: there and back, for all layers of a step.
    """

    ratio: float
    kv_bytes: float = 1.0
    executor_bytes_per_s: float = 0.0
    decode_bytes_per_s: float = 0.0
    sync_s: float = 0.0

    def is_hidden(self, local_tokens: float, offloaded_tokens: float) -> bool:
        """The guard (ours): t_net + KV_off / BW_p <= KV_loc / BW_d, so that nobody waits for it."""
        if not offloaded_tokens or not self.executor_bytes_per_s or not self.decode_bytes_per_s:
            return True
        remote_s = self.sync_s + offloaded_tokens * self.kv_bytes / self.executor_bytes_per_s
        return remote_s <= local_tokens * self.kv_bytes / self.decode_bytes_per_s


class OffloadAdmission(ABC):
    """Which sequences leave their KV with the peer that computed it (Adrenaline, 2503.20552)."""

    @abstractmethod
    def admits(
        self, num_tokens: int, max_tokens: int, batch: DecodeBatch, limits: OffloadLimits
    ) -> bool:
        """Whether a new sequence is offloaded.

        Args:
            num_tokens: of its prompt; max_tokens: with the longest answer it may give.
        """

    @abstractmethod
    def call_back(self, batch: DecodeBatch, limits: OffloadLimits) -> list[str]:
        """Sequences whose KV should come here now, first one first.

        Asked when sequences end or grow, and when `limits` change. A caller without room for one
        preempts it instead.
        """
