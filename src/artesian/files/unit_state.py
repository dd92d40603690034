"""What an advisor keeps of each unit."""

from artesian.files.base import Block, Unit, Verdict
from artesian.files.policies import (
    Demand,
    Eager,
    Eviction,
    Ghosts,
    KeepResidents,
    Lru,
    PrefetchBudget,
    S3Fifo,
    idle_limit_s,
    is_reread,
)
from artesian.files.tree import UnitFacts

_MARGIN_STEPS = 4
"""Ghosts and margins are so many steps of room, as one step has few hits to count."""
_MEMORY = 0.5


class UnitState:
    """Blocks, counts and policies of a unit.

    Attributes:
        eviction: its blocks; ghosts: names of those that went; budget: of what is fetched ahead.
        last_s: of its last use.
    """

    def __init__(self, path: str, verdict: Verdict, step_bytes: int, now_s: float) -> None:
        self.path = path
        self.verdict = verdict
        self.facts: UnitFacts | None = None
        self.eviction: Eviction = Lru()
        self.ghosts = Ghosts(0)
        self.budget = PrefetchBudget(0)
        self.last_s = now_s
        self.is_filled = False
        self.num_hits = 0
        self.num_misses = 0
        self.saved_s = 0.0
        self._accessed_s = 0.0  # what the accesses since the last review would take at the origin
        self._ghost_s = 0.0
        self._margin_s = 0.0
        self._rates = [0.0, 0.0, 0.0]
        self.resize_step(step_bytes)

    def resize_step(self, step_bytes: int) -> None:
        """Shares change by so much."""
        self.ghosts.resize(_MARGIN_STEPS * step_bytes)
        self.eviction.resize_margin(_MARGIN_STEPS * step_bytes)

    def use(self, block: Block, cost_s: float, now_s: float) -> None:
        """A block is wanted."""
        self.last_s = now_s
        self._accessed_s += cost_s
        if self.eviction.use(block):
            self._margin_s += cost_s
        elif self.ghosts.take(block):
            self._ghost_s += cost_s
        self.budget.used(block)

    def remove(self, block: Block) -> None:
        """A block is gone."""
        num_bytes = self.eviction.remove(block)
        if num_bytes:
            self.ghosts.add(block, num_bytes)
        self.budget.wasted(block)

    def choose_eviction(self, skewed: str, step_bytes: int, was_reread: bool) -> None:
        """The policy for its verdict, if it is another one than so far."""
        kind = self._kind(skewed, was_reread)
        if type(self.eviction) is kind:
            return
        old = self.eviction
        self.eviction = kind()
        self.eviction.resize_margin(_MARGIN_STEPS * step_bytes)
        for block, num_bytes in old.items():
            self.eviction.add(block, num_bytes)

    def _kind(self, skewed: str, was_reread: bool) -> type[Eviction]:
        if self.verdict == Verdict.RANDOM:
            return KeepResidents
        if self.verdict == Verdict.SEQUENTIAL:
            facts = self.facts
            watched = (facts.num_watched, facts.num_reused) if facts else (0, 0)
            return KeepResidents if is_reread(*watched, was_reread) else Eager
        return S3Fifo if self.verdict == Verdict.SKEWED and skewed == "s3fifo" else Lru

    @property
    def data_bytes(self) -> float:
        """Size of all its files, as far as known."""
        return self.facts.data_bytes if self.facts else 0.0

    def idle_limit_s(self) -> float:
        """Seconds without use after which its room goes first."""
        facts = self.facts
        if facts is None:
            return idle_limit_s(0.0, 0.0, 0.0)
        return idle_limit_s(facts.reuse_mean_s, facts.reuse_deviation_s, facts.reuse_last_s)

    def is_idle(self, now_s: float) -> bool:
        """Whether it was not used for longer than that."""
        return bool(self.path) and now_s - self.last_s > self.idle_limit_s()

    def demand(self, share: int, step: int, floor: int, took_s: float, now_s: float) -> Demand:
        """What it would make of a step more or less of room, by what happened in `took_s`."""
        counted = (self._accessed_s, self._ghost_s, self._margin_s)
        self._accessed_s = self._ghost_s = self._margin_s = 0.0
        for i, seconds in enumerate(counted):
            self._rates[i] += _MEMORY * (seconds / max(took_s, 1e-9) - self._rates[i])
        used = self.eviction.used_bytes
        is_full = used > share - 2 * step
        most = float("inf")
        if isinstance(self.eviction, KeepResidents) and self.data_bytes > 0:
            most = self.data_bytes * 1.05
            loss = self._rates[0] * step / max(self.data_bytes, step)
            gain = loss
        elif isinstance(self.eviction, Eager):
            gain = loss = 0.0
        else:
            gain = self._rates[1] / _MARGIN_STEPS
            loss = self._rates[2] / _MARGIN_STEPS if is_full else 0.0
        return Demand(gain if is_full else 0.0, loss, used, floor, most, self.is_idle(now_s))

    def describe(self, share_bytes: int | None, now_s: float) -> Unit:
        """For people."""
        return Unit(
            path=self.path,
            verdict=self.verdict,
            policy=self.eviction.title,
            share_bytes=share_bytes,
            used_bytes=self.eviction.used_bytes,
            data_bytes=int(self.data_bytes),
            num_hits=self.num_hits,
            num_misses=self.num_misses,
            saved_s=self.saved_s,
            idle_s=max(0.0, now_s - self.last_s),
            idle_limit_s=self.idle_limit_s() if self.path else None,
        )
