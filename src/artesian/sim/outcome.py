"""What came of a simulated workload."""

from dataclasses import dataclass

from artesian.sim.requests import Request
from artesian.sim.tiers import Found, Tiers


@dataclass(slots=True)
class Outcome:
    """Sums over the turns after the first `num_warm_up`.

    Attributes:
        num_turns: all of them; num_later: of these, those with a history.
        hits: parts of their histories that were there, added up; host_hits: in host memory.
        history_tokens: tokens of the histories; hit_tokens: of these, the ones that were there.
        queued: requests that waited when one began, added up.
        makespan_s: until the last answer; prefill_s: of the accelerators.
        read_s, write_s: how long the disk was busy.
    """

    num_warm_up: int = 0
    num_turns: int = 0
    num_later: int = 0
    hits: float = 0.0
    host_hits: float = 0.0
    history_tokens: int = 0
    hit_tokens: int = 0
    prompt_tokens: int = 0
    queued: int = 0
    most_queued: int = 0
    prefilled_s: float = 0.0
    makespan_s: float = 0.0
    prefill_s: float = 0.0
    read_s: float = 0.0
    write_s: float = 0.0
    num_seen: int = 0

    @property
    def hit_rate(self) -> float:
        """Of all turns, also those without a history: what the paper reports, as we read it."""
        return self.hits / max(1, self.num_turns)

    @property
    def later_hit_rate(self) -> float:
        """Of the turns with a history."""
        return self.hits / max(1, self.num_later)

    @property
    def ceiling(self) -> float:
        """`hit_rate` if nothing were ever lost."""
        return self.num_later / max(1, self.num_turns)

    @property
    def host_share(self) -> float:
        """Of the hits, those in host memory."""
        return self.host_hits / self.hits if self.hits else 0.0

    @property
    def token_hit_rate(self) -> float:
        """Of the tokens of histories."""
        return self.hit_tokens / max(1, self.history_tokens)

    @property
    def mean_queued(self) -> float:
        """Requests that waited when one began."""
        return self.queued / max(1, self.num_turns)

    @property
    def mean_first_token_s(self) -> float:
        """From taking a slot to the first token."""
        return self.prefilled_s / max(1, self.num_turns)

    def admit(self, request: Request, found: Found, num_queued: int) -> None:
        """A request takes a slot."""
        self.num_seen += 1
        if self.num_seen <= self.num_warm_up:
            return
        self.num_turns += 1
        self.queued += num_queued
        self.most_queued = max(self.most_queued, num_queued)
        self.prompt_tokens += request.num_prompt_tokens
        if request.names:
            num_blocks = len(request.names)
            self.num_later += 1
            self.hits += (found.num_host + found.num_disk) / num_blocks
            self.host_hits += found.num_host / num_blocks
            self.history_tokens += num_blocks * request.block_tokens
            self.hit_tokens += (found.num_host + found.num_disk) * request.block_tokens

    def first_token(self, begin_s: float, end_s: float) -> None:
        """A request that took its slot at `begin_s` has its first token."""
        if self.num_seen > self.num_warm_up:
            self.prefilled_s += end_s - begin_s

    def end(self, now: float, prefill_s: float, tiers: Tiers) -> None:
        """All is done."""
        self.makespan_s = now
        self.prefill_s = prefill_s
        self.read_s = tiers.read.busy_s
        self.write_s = tiers.write.busy_s
