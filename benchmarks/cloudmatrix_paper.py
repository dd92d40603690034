"""CloudMatrix-Infer's (2506.12708) decode rows: a curve through two of them predicts the others.

A step is (61 layers + the rest) / 1.7 tokens: acceptance of drafts is assumed in the paper as well.
At 4K of context TPOT is taken to be a + b * sqrt(batch), our form, calibrated on two rows. Another
context changes attention alone: its arithmetic at the rate that the paper measured.
"""

from dataclasses import dataclass
from math import sqrt


@dataclass(frozen=True, slots=True)
class DecodeRow:
    """A row of the table: tokens of prompt and answer, sequences of an NPU, ms of a token."""

    num_prompt: int
    num_output: int
    batch: int
    tpot_ms: float

    @property
    def context(self) -> float:
        """On average while it decodes."""
        return self.num_prompt + self.num_output / 2

    @property
    def tokens_per_s(self) -> float:
        """Of an NPU."""
        return self.batch / self.tpot_ms * 1e3


CALIBRATION = (DecodeRow(4096, 256, 8, 14.9), DecodeRow(4096, 256, 96, 49.4))
PREDICTED = (
    DecodeRow(4096, 256, 24, 24.6),
    DecodeRow(2048, 256, 112, 47.4),
    DecodeRow(1024, 1024, 128, 46.8),
)
NUM_LAYERS, TOKENS_OF_STEP, QUERIES = 61, 1.7, 2
"""A step verifies one draft besides the token itself."""
HEADS, KEY_DIMS, VALUE_DIMS = 128, 576, 512
"""Of DeepSeek's attention with absorbed projections."""
DIES, DIE_FLOPS_PER_S, REACHED = 2, 376e12, 0.654
"""Of an NPU; 16-bit arithmetic of a die, and the part of it that the paper's attention reaches."""


def attention_ms(batch: int, context: float) -> float:
    """Of a token, all layers."""
    flops = batch / DIES * QUERIES * HEADS * (KEY_DIMS + VALUE_DIMS) * 2 * context
    return 1e3 * NUM_LAYERS * flops / (DIE_FLOPS_PER_S * REACHED) / TOKENS_OF_STEP


def predict_ms(row: DecodeRow) -> float:
    """TPOT by the curve through `CALIBRATION`."""
    low, high = CALIBRATION
    slope = (high.tpot_ms - low.tpot_ms) / (sqrt(high.batch) - sqrt(low.batch))
    at_4k = low.tpot_ms + slope * (sqrt(row.batch) - sqrt(low.batch))
    less = attention_ms(row.batch, low.context) - attention_ms(row.batch, row.context)
    return at_4k - less
