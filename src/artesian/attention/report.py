"""What sparse attention read in one step, and what that was worth."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SparseReport:
    """One step of one sequence, by layer and query head.

    Query heads that share a KV head have the same numbers of groups, for they share what they read.
    A layer that attended to all it could see says so: as many groups read as visible, and masses
    of 1. All is 0 for a sequence of several rows, which attends to everything.

    Attributes:
        sequence: its number in the batch.
        numbers: float32 (num_layers, num_heads, 4), filled by the step.
    """

    sequence: int
    numbers: F32

    @property
    def groups_read(self) -> F32:
        """(num_layers, num_heads) groups of 32 tokens whose keys and values were read."""
        return self.numbers[..., 0]

    @property
    def groups_visible(self) -> F32:
        """(num_layers, num_heads) groups that dense attention would have read."""
        return self.numbers[..., 1]

    @property
    def estimated_mass(self) -> F32:
        """(num_layers, num_heads) part of the attention weight that was kept, as the stop rule
        saw it; NaN for selectors that do not look."""
        return self.numbers[..., 2]

    @property
    def true_mass(self) -> F32:
        """(num_layers, num_heads) the same as dense scores say; NaN where nobody audited."""
        return self.numbers[..., 3]

    @property
    def kept_ratio(self) -> float:
        """Part of the visible groups that was read, over all layers and heads; 1 if none was."""
        visible = float(self.groups_visible.sum())
        return float(self.groups_read.sum()) / visible if visible else 1.0
