"""The line of numbers behind an answer."""

import time
from dataclasses import dataclass, field

from artesian.cli.answers import Delta


@dataclass(slots=True)
class AnswerStats:
    """Counts and times of one answer."""

    started_s: float = field(default_factory=time.perf_counter)
    first_s: float | None = None
    last_s: float = 0.0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_output_tokens: int = 0

    def take(self, delta: Delta) -> None:
        """Books one more piece."""
        now = time.perf_counter()
        if delta.text and self.first_s is None:
            self.first_s = now
        self.last_s = now
        self.num_prompt_tokens = max(self.num_prompt_tokens, delta.num_prompt_tokens)
        self.num_cached_tokens = max(self.num_cached_tokens, delta.num_cached_tokens)
        self.num_output_tokens = max(self.num_output_tokens, delta.num_output_tokens)

    def __str__(self) -> str:
        parts = [f"{self.num_prompt_tokens} prompt tokens ({self.num_cached_tokens} cached)"]
        if self.first_s is not None:
            parts.append(f"first token after {(self.first_s - self.started_s) * 1e3:.0f} ms")
            parts.append(f"{self.num_output_tokens} tokens")
            decode_s = self.last_s - self.first_s
            if self.num_output_tokens > 1 and decode_s > 0:
                parts.append(f"{(self.num_output_tokens - 1) / decode_s:.1f} tokens/s")
        return ", ".join(parts)
