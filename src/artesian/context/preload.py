"""When to start computing while earlier keys and values still arrive. A policy: no I/O, no clock.

After CachedAttention (section 3.2.1 there): the KV of layer i + 1 arrives while layer i computes
the new tokens. Loading is hidden altogether iff

    T_load * L_hist <= T_pref * L_new

where T are times per token and L numbers of tokens, of the history and new ones. Otherwise the
first S_buf = B * (T_load * L_hist - T_pref * L_new) bytes, at a bandwidth of B, have to be there
before computing begins, and then it does not have to wait. All layers are of one size here, so
S_buf is a number of layers. That the first layer has to be there too, and one more for safety when
others would be held up, is ours, as is taking T_load from how the load has gone so far.
"""

import math
from dataclasses import dataclass

_ROUNDING = 1e-6
_PATIENCE = 3.0
_MIN_PATIENCE_S = 0.1
"""A step waits so much longer for layers than they should take, and at least so long."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a load has come.

    Attributes:
        num_layers: of each block; num_here: of them are there.
        elapsed_s: since its turn came; 0 before that.
        expected_s: how long all of it should take, from its turn on; 0 when that is not known.
    """

    num_layers: int
    num_here: int
    elapsed_s: float
    expected_s: float = 0.0

    @property
    def load_s(self) -> float:
        """How long all of it takes: as it goes now, or else as is expected; 0 if unknown."""
        if self.num_here == 0:
            return self.expected_s
        return self.elapsed_s * self.num_layers / self.num_here


class PreloadRule:
    """Starts as soon as computing will not have to wait for layers."""

    def buffer_layers(self, num_layers: int, load_s: float, prefill_s: float) -> int:
        """S_buf: layers that have to be there at the start, if all of them take `load_s` to load
        and `prefill_s` to compute."""
        if load_s <= prefill_s:
            return 0
        return math.ceil(num_layers * (1 - prefill_s / load_s) - _ROUNDING)

    def may_start(self, progress: Progress, prefill_s: float, is_alone: bool) -> bool:
        """Whether to begin to compute the new tokens, which will take `prefill_s` (0: unknown).

        A load whose turn has not come is never begun with. Where nothing is known it is found out
        when nobody else is held up by that.

        Args:
            is_alone: nothing else runs that would have to wait as well.
        """
        if progress.num_here >= progress.num_layers:
            return True
        if progress.elapsed_s == 0:
            return False
        if progress.load_s == 0 or prefill_s == 0:
            return is_alone
        num_needed = self.buffer_layers(progress.num_layers, progress.load_s, prefill_s)
        if not is_alone:
            num_needed += 1
        return progress.num_here >= min(num_needed, progress.num_layers)

    def patience_s(self, progress: Progress) -> float:
        """How long a step waits for the rest: others cannot run meanwhile, so a load that gets
        stuck is given up sooner than where it holds up nobody else."""
        if progress.load_s == 0:
            return math.inf
        left_s = progress.load_s * (1 - progress.num_here / progress.num_layers)
        return max(_PATIENCE * left_s, _MIN_PATIENCE_S)
