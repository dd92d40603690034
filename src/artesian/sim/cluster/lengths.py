"""Calls with made-up lengths, for where no trace can be had: seeded, Poisson arrivals.

All of it is ours but the means of ShareGPT.
"""

import numpy as np

from artesian.sim.cluster.calls import Call

_SHAREGPT_MEANS = (161.0, 338.0)
"""Tokens of prompts and answers of ShareGPT by Llama's tokenizer, as the paper on vLLM (2309.06180)
reports them."""
_SHAREGPT_SPREADS = (1.2, 0.9)
_SHAREGPT_WINDOW = 2048
_OPENTHOUGHTS_PROMPT = (180.0, 0.5)
_OPENTHOUGHTS_ANSWER = (3200.0, 0.6)
"""Mean and spread of prompts, and of reasoning that is cut at Llama 2's window."""
_OPENTHOUGHTS_WINDOW = 4096


def sharegpt_like(num_calls: int, calls_per_s: float, seed: int = 0) -> list[Call]:
    """Log-normal lengths with ShareGPT's means, cut at 2,048 tokens in all."""
    prompt, answer = zip(_SHAREGPT_MEANS, _SHAREGPT_SPREADS, strict=True)
    return _make(num_calls, calls_per_s, prompt, answer, _SHAREGPT_WINDOW, seed)


def openthoughts_like(num_calls: int, calls_per_s: float, seed: int = 0) -> list[Call]:
    """Short questions with long reasoning, cut at 4,096 tokens in all."""
    shapes = (_OPENTHOUGHTS_PROMPT, _OPENTHOUGHTS_ANSWER)
    return _make(num_calls, calls_per_s, *shapes, _OPENTHOUGHTS_WINDOW, seed)


def fixed_lengths(
    num_calls: int, calls_per_s: float, num_prompt: int, num_output: int, seed: int = 0
) -> list[Call]:
    """All alike, as `artesian bench` sends them."""
    arrivals = _arrivals(num_calls, calls_per_s, np.random.default_rng(seed))
    return [Call(time_s, num_prompt, num_output) for time_s in arrivals]


def _make(
    num_calls: int,
    calls_per_s: float,
    prompt: tuple[float, float],
    answer: tuple[float, float],
    window: int,
    seed: int,
) -> list[Call]:
    random = np.random.default_rng(seed)
    arrivals = _arrivals(num_calls, calls_per_s, random)
    prompts = _log_normal(random, *prompt, num_calls).clip(4, window // 2)
    answers = _log_normal(random, *answer, num_calls).clip(2, None)
    answers = np.minimum(answers, window - prompts)
    return [
        Call(*values) for values in zip(arrivals, prompts.tolist(), answers.tolist(), strict=True)
    ]


def _arrivals(num_calls: int, calls_per_s: float, random: np.random.Generator) -> list[float]:
    gaps: list[float] = np.cumsum(random.exponential(1 / calls_per_s, num_calls)).tolist()
    return gaps


def _log_normal(
    random: np.random.Generator, mean: float, spread: float, num: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    median = mean / np.exp(spread**2 / 2)
    return random.lognormal(np.log(median), spread, num).astype(np.int64)
