"""What one engine step computes: rows of tokens of several sequences, and where their KV lies."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from artesian.attention import SparseAttention, SparseReport
from artesian.context.base import Gate
from artesian.engine.handover import LandingWriter
from artesian.engine.offload.base import RemoteRows
from artesian.skip import SkipSet

I32 = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one step; the rows of a sequence are consecutive, in order of position.

    Attributes:
        tokens: int32 (num_rows,) token ids.
        positions: int32 (num_rows,) position of each row in its sequence, from 0.
        row_starts: int32 (num_sequences + 1,) sequence s has row_starts[s]:row_starts[s + 1].
        context_lens: int32 (num_sequences,) tokens of each once this step's rows are stored.
        block_tables: int32 (num_sequences, max_blocks) arena block of each run of block_size
            tokens; entries past the context are ignored.
        logit_rows: int32 (num_logits,) rows whose logits are wanted.
        gates: (sequence, gate) for those of whose blocks some are on their way: before its
            attention over a layer the runner waits for that layer. Where a gate does not open, the
            sequence's logits are arbitrary.
        timeout_s: how long the runner waits for gates, all together.
        pushes: (sequence, writer) for prompts that are computed for a peer: the runner writes the
            blocks that this batch fills, or begins to fill, layer by layer.
        sparse: (sequence, how) for those of one row that do not attend to everything.
        audit: also find out what those leave out, which takes as long as attending to it.
        reports: takes one of each of those, in their order; exact ones have none.
        skips: (sequence, set) for those that leave out sublayers. Any order of sequences is right;
            nothing is computed in vain where those that skip more come behind the others.
        probe: float32 (2, num_sublayers, num_rows) that gets, for each sublayer and row, the cosine
            of its input and output, and the ratio of their norms; not a number where a row left the
            sublayer out, and from the last layer's attention on for rows that are no logit rows.
            None: nothing is measured.
    """

    tokens: I32
    positions: I32
    row_starts: I32
    context_lens: I32
    block_tables: I32
    logit_rows: I32
    gates: Sequence[tuple[int, Gate]] = ()
    timeout_s: float = 0.0
    remotes: Sequence[RemoteRows] = ()
    failed: list[int] = field(default_factory=list)
    pushes: Sequence[tuple[int, LandingWriter]] = ()
    sparse: Sequence[tuple[int, SparseAttention]] = ()
    audit: bool = False
    reports: list[SparseReport] = field(default_factory=list)
    skips: Sequence[tuple[int, SkipSet]] = ()
    probe: npt.NDArray[np.float32] | None = None
