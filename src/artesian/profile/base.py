"""A profile: what `artesian profile` has measured, and for what that holds."""

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from artesian.profile.costs import StepCosts

FORMAT = 1


class ProfileError(ValueError):
    """A profile cannot be used; the message says why, and what to do."""


class ProfileIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """What the times depend on: with another one they mean nothing.

    Attributes:
        model, fingerprint: the checkpoint's name and digest.
        cpu: as the machine names it; num_threads: of the kernels.
        version: of Artesian, whose kernels they were.
    """

    model: str
    fingerprint: str
    kv_dtype: str
    quantization: str
    isa: str
    cpu: str
    num_threads: int
    version: str


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Prefilling while another process reads memory.

    Attributes:
        share: of one core's time that it asks for.
        bytes_per_s: that it gets.
        slowdown: time of a prefill over that without it.
    """

    share: float
    bytes_per_s: float
    slowdown: float


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One model on one machine.

    Attributes:
        date: ISO 8601, UTC.
        costs: of steps with all threads.
        mean_error, max_error: of measurements that `costs` was not fitted to, relative.
        kv_bytes: of a token, all layers.
        capacity_tokens: of KV that was planned for.
        attention_bytes_per_s: at which decoding reads KV with 1, 2, ... threads.
        shares: by share, the first one 0.
        handover_byte_s: to write a byte of KV where a peer sees it.
    """

    identity: ProfileIdentity
    date: str
    costs: StepCosts
    mean_error: float
    max_error: float
    kv_bytes: float
    capacity_tokens: int
    attention_bytes_per_s: dict[int, float]
    shares: list[Share]
    handover_byte_s: float
    format: int = FORMAT

    def executor_share(self, ttft_s: float, num_tokens: int) -> float:
        """The largest share of a core that an executor may have so that a prompt of so many tokens
        is still prefilled in `ttft_s`; 0 if even alone it is not."""
        limit = ttft_s / self.costs.prefill_s(num_tokens)
        if limit < 1:
            return 0.0
        points = [(s.slowdown, s.share) for s in self.shares]
        return _interpolate(points, limit)

    def executor_bytes_per_s(self, share: float) -> float:
        """At which an executor with that share of a core reads KV."""
        return _interpolate([(s.share, s.bytes_per_s) for s in self.shares], share)

    def slowdown(self, share: float) -> float:
        """Of prefills beside such an executor."""
        return _interpolate([(s.share, s.slowdown) for s in self.shares], share)


def _interpolate(points: Sequence[tuple[float, float]], x: float) -> float:
    """Linear between points in order of x; beyond them the value of the last one.

    Measured slowdowns may go down a little where they should not: what follows is taken for no
    less.
    """
    xs: list[float] = []
    ys: list[float] = []
    for point_x, point_y in points:
        xs.append(max(point_x, xs[-1]) if xs else point_x)
        ys.append(point_y)
    if not xs:
        return 0.0
    index = bisect_right(xs, x)
    if index == 0:
        return ys[0]
    if index == len(xs):
        return ys[-1]
    part = (x - xs[index - 1]) / (xs[index] - xs[index - 1])
    return ys[index - 1] + part * (ys[index] - ys[index - 1])
