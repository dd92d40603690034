"""What is asked of a simulated cluster, and what became of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """A request of a trace.

    Attributes:
        num_cached_tokens: of its prompt, whose KV any worker finds in the pool.
        key: session or client; empty: unknown.
    """

    arrival_s: float
    num_prompt_tokens: int
    num_output_tokens: int
    num_cached_tokens: int = 0
    key: str = ""


@dataclass(slots=True, eq=False)
class Job:
    """A call on its way.

    Attributes:
        number: in order of arrival.
        num_tokens: of its prompt, and of its answer once that has to be computed again.
        num_cached: of these, that need no computing.
        num_left: tokens of the answer that are still to come.
        peer: instance whose executor has its KV; empty: none.
        first_s, last_s: when its first and last tokens came.
    """

    number: int
    call: Call
    num_tokens: int
    num_left: int
    num_cached: int = 0
    peer: str = ""
    first_s: float = -1.0
    last_s: float = -1.0
    was_offloaded: bool = False
    num_preemptions: int = 0

    @classmethod
    def of(cls, number: int, call: Call) -> "Job":
        """A call that has just come."""
        cached = min(call.num_cached_tokens, call.num_prompt_tokens - 1)
        return cls(number, call, call.num_prompt_tokens, call.num_output_tokens, cached)

    @property
    def ttft_s(self) -> float:
        """From arrival to first token."""
        return self.first_s - self.call.arrival_s

    @property
    def tpot_s(self) -> float:
        """Of each token but the first, on average; 0 if there is one only."""
        num_more = self.call.num_output_tokens - 1
        return (self.last_s - self.first_s) / num_more if num_more else 0.0
