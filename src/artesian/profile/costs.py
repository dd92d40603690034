"""What a step of the engine takes: a roofline of few terms."""

import msgspec


class StepCosts(msgspec.Struct, frozen=True, kw_only=True):
    """A step takes

        fixed_s + max(knee_rows * row_s, rows * row_s + prompt_rows * prompt_row_s)   the rest
        + kv_token_s * tokens + pair_s * pairs                                        attention

    Below the knee linear layers wait for weights to be read, above it for arithmetic. Decoding
    attends by reading the KV of `tokens` tokens; a prompt by `pairs` of a token and one before it.

    Attributes:
        fixed_s: of every step.
        knee_rows: rows whose arithmetic takes as long as reading the weights.
        row_s, prompt_row_s: linear layers of a row, one of many in a prompt.
        kv_token_s: attention of a decode row to one token, in all layers.
        pair_s: the same of a row of a prompt.
    """

    fixed_s: float
    row_s: float
    prompt_row_s: float
    kv_token_s: float
    pair_s: float
    knee_rows: float = 0.0

    def rest_s(self, rows: float, prompt_rows: float = 0.0) -> float:
        """All but attention."""
        arithmetic_s = rows * self.row_s + prompt_rows * self.prompt_row_s
        return self.fixed_s + max(self.knee_rows * self.row_s, arithmetic_s)

    def attention_s(self, tokens: float, pairs: float = 0.0) -> float:
        """Attention alone: to `tokens` tokens of KV by decode rows, and `pairs` of prompts."""
        return tokens * self.kv_token_s + pairs * self.pair_s

    def decode_s(self, rows: float, tokens: float) -> float:
        """A step of `rows` sequences that have `tokens` tokens together."""
        return self.rest_s(rows) + self.attention_s(tokens)

    def prefill_s(self, num_tokens: int, first: int = 0) -> float:
        """A step that computes tokens `first`, `first + 1`, ... of a prompt."""
        pairs = num_pairs(num_tokens, first)
        return self.rest_s(0, num_tokens) + self.attention_s(0, pairs)

    def slo_batch(self, tpot_s: float, context_tokens: float) -> float:
        """B_TPOT: the largest batch of such sequences whose step takes no longer; 0 if none."""
        spare_s = tpot_s - self.fixed_s
        below_knee = (spare_s - self.knee_rows * self.row_s) / (context_tokens * self.kv_token_s)
        above = spare_s / (self.row_s + context_tokens * self.kv_token_s)
        return max(0.0, min(below_knee, above))

    def rest_batch(self, tpot_s: float) -> float:
        """The largest batch whose step meets the target if all of its attention is elsewhere."""
        if self.rest_s(0) > tpot_s:
            return 0.0
        return (tpot_s - self.fixed_s) / self.row_s


def num_pairs(num_tokens: float, first: float = 0.0) -> float:
    """Pairs of a token among `first`, `first + 1`, ... and one up to itself."""
    return num_tokens * (first + (num_tokens + 1) / 2)
