"""How much of the KV before them tokens attended to, and what weight it had."""

from dataclasses import dataclass, field

import numpy as np

from artesian.attention import SparseReport
from artesian.ops.base import F32, KvLayout

_GROUP_TOKENS = 32
_ELEMENT_BYTES = {"f32": 4, "f16": 2, "bf16": 2, "int8": 1}
_SUMMARY_VECTORS = {"none": 0, "mean": 1, "cuboid": 2, "min-max": 2}


@dataclass(slots=True)
class Kept:
    """Sums over the steps of one way, over layers that see the whole context.

    Attributes:
        num_steps: tokens that were looked at.
        groups_read: groups of 32 tokens that were attended to, of each layer and KV head.
        groups_visible: those that could have been.
        masses: float32 arrays, true part of the attention weight that was kept: of each layer and
            query head of the steps that were audited.
    """

    num_steps: int = 0
    groups_read: int = 0
    groups_visible: int = 0
    masses: list[F32] = field(default_factory=list)

    def add(self, report: SparseReport, heads_per_group: int) -> None:
        """Adds a step; so many query heads share a KV head, and so a choice."""
        visible = report.groups_visible[:, ::heads_per_group]
        # Layers with a window see less than the others: there is nothing to leave out.
        whole = visible.max(axis=1) == visible.max()
        self.num_steps += 1
        self.groups_read += int(report.groups_read[whole, ::heads_per_group].sum())
        self.groups_visible += int(visible[whole].sum())
        masses = report.true_mass[whole]
        self.masses.append(masses[~np.isnan(masses)])

    def merge(self, other: "Kept") -> None:
        """Adds the steps of another."""
        self.num_steps += other.num_steps
        self.groups_read += other.groups_read
        self.groups_visible += other.groups_visible
        self.masses += other.masses

    def of_everything(self) -> "Kept":
        """The same steps, had everything been read."""
        return Kept(self.num_steps, self.groups_visible, self.groups_visible)

    @property
    def ratio(self) -> float:
        """Part of the groups that were read."""
        return self.groups_read / self.groups_visible if self.groups_visible else 1.0

    @property
    def mean_mass(self) -> float:
        """Mean part of the weight that was kept; 1 when nothing was audited."""
        every = self._every_mass()
        return float(every.mean(dtype=np.float64)) if len(every) else 1.0

    @property
    def low_mass(self) -> float:
        """The part that 95% of the audits are above."""
        every = self._every_mass()
        return float(np.quantile(every, 0.05)) if len(every) else 1.0

    def bytes_read(self, layout: KvLayout, looks: bool) -> float:
        """Bytes of KV read for a token: of groups, and of all summaries if the way looks at them.

        0 when there were no steps.
        """
        if not self.num_steps:
            return 0.0
        scales = 8 if layout.dtype == "int8" else 0
        width = 2 * layout.head_dim * _ELEMENT_BYTES[layout.dtype] + scales
        summary = _SUMMARY_VECTORS[layout.summaries] * layout.head_dim * 2 if looks else 0
        total = self.groups_read * _GROUP_TOKENS * width + self.groups_visible * summary
        return total / self.num_steps

    def _every_mass(self) -> F32:
        return np.concatenate([np.empty(0, np.float32), *self.masses])
