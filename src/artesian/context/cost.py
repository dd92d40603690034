"""What computing and loading a prefix take, learned from what they took. No I/O, no clock."""

from dataclasses import dataclass

import msgspec

_DECAY = 0.95
"""Of older observations with each new one: about the last twenty count."""
_RIDGE = 1e-9


class Line(msgspec.Struct):
    """Least squares for y = a + b x with a, b >= 0, in which older observations fade.

    The sums are those of the normal equations; `num` counts observations.
    """

    weight: float = 0.0
    x: float = 0.0
    xx: float = 0.0
    y: float = 0.0
    xy: float = 0.0
    num: int = 0

    def observe(self, x: float, y: float) -> None:
        """y was seen at x."""
        self.weight = _DECAY * self.weight + 1.0
        self.x = _DECAY * self.x + x
        self.xx = _DECAY * self.xx + x * x
        self.y = _DECAY * self.y + y
        self.xy = _DECAY * self.xy + x * y
        self.num += 1

    def soften(self) -> None:
        """Lets what comes next count as much as all that was seen."""
        if self.weight > 1.0:
            factor = 1.0 / self.weight
            self.weight, self.x, self.xx = 1.0, self.x * factor, self.xx * factor
            self.y, self.xy = self.y * factor, self.xy * factor

    def terms(self) -> tuple[float, float]:
        """(a, b); (0, 0) before the first observation."""
        if self.weight == 0:
            return 0.0, 0.0
        spread = self.weight * self.xx - self.x * self.x
        if spread > _RIDGE * self.weight * self.xx:
            b = (self.weight * self.xy - self.x * self.y) / spread
            a = (self.y - b * self.x) / self.weight
            if a >= 0 and b >= 0:
                return a, b
        only_a = self.y / self.weight
        only_b = self.xy / self.xx if self.xx > 0 else 0.0
        # Of the two ends the one that explains more: the squared errors are a constant less these.
        return (only_a, 0.0) if self.y * only_a >= self.xy * only_b else (0.0, only_b)

    def value(self, x: float) -> float:
        """y at x."""
        a, b = self.terms()
        return a + b * x


class PrefillCost(msgspec.Struct):
    """Computing tokens: each takes some time for itself, and some for all that it attends to."""

    per_token: Line = msgspec.field(default_factory=Line)
    """Seconds by the mean number of tokens before it."""

    @property
    def is_known(self) -> bool:
        """Whether anything was observed."""
        return self.per_token.num > 0

    def observe(self, first: int, num_tokens: int, seconds: float) -> None:
        """A step computed tokens `first`, `first + 1`, ... of a prompt, and little else."""
        self.per_token.observe(first + num_tokens / 2, seconds / num_tokens)

    def seconds(self, first: int, num_tokens: int) -> float:
        """How long that takes; 0 while nothing is known."""
        return num_tokens * self.per_token.value(first + num_tokens / 2)


class LoadCost(msgspec.Struct):
    """Loading blocks: a part for each request, and one for each block."""

    per_block: Line = msgspec.field(default_factory=Line)
    """Seconds by one over the number of blocks of the request."""

    @property
    def is_known(self) -> bool:
        """Whether anything was observed."""
        return self.per_block.num > 0

    def observe(self, num_blocks: int, seconds: float) -> None:
        """So many blocks came in `seconds`, from the first request to the last arrival."""
        self.per_block.observe(1 / num_blocks, seconds / num_blocks)

    def seconds(self, num_blocks: int) -> float:
        """How long that takes; 0 while nothing is known."""
        return num_blocks * self.per_block.value(1 / num_blocks) if num_blocks else 0.0


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to do about blocks that a tier has: compute the first ones while the others come.

    Attributes:
        num_computed: first blocks to compute.
        num_loaded: the others; 0 when loading does not pay.
        seconds: what both together are expected to take.
    """

    num_computed: int
    num_loaded: int
    seconds: float


def plan_load(
    prefill: PrefillCost, load: LoadCost, first: int, num_blocks: int, block_size_tokens: int
) -> LoadPlan:
    """The split that has `num_blocks` blocks behind token `first` ready soonest.

    Blocks can only be computed from the front, as each needs those before it, and can be loaded in
    any order; so both go on at once from the two ends. Computing grows and loading shrinks with the
    number of computed blocks: the best number lies where they cross. While either cost is unknown
    everything is loaded, so that it becomes known.
    """
    if not prefill.is_known or not load.is_known:
        return LoadPlan(0, num_blocks, 0.0)

    def computing(count: int) -> float:
        return prefill.seconds(first, count * block_size_tokens)

    low, high = 0, num_blocks  # the first count at which computing takes longer than loading
    while low < high:
        middle = (low + high) // 2
        if computing(middle) < load.seconds(num_blocks - middle):
            low = middle + 1
        else:
            high = middle
    candidates = {max(low - 1, 0), low, num_blocks}
    best = min(candidates, key=lambda k: (max(computing(k), load.seconds(num_blocks - k)), k))
    seconds = max(computing(best), load.seconds(num_blocks - best))
    return LoadPlan(best, num_blocks - best, seconds)
