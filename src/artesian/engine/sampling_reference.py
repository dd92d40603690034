"""Choosing tokens in numpy: the slow obvious twin of the kernels that `Sampler` uses."""

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
U64 = npt.NDArray[np.uint64]

_MASK = (1 << 64) - 1


def sample(
    logits: F32, temperature: F32, top_k: I32, top_p: F32, min_p: F32, seeds: U64, steps: U64
) -> I32:
    """One token of each row of `logits` (m, vocab_size); temperature 0 takes the first largest.

    Filters act in the order temperature, top_k, top_p, min_p. The choice depends on the row, its
    seed and its step alone.
    """
    return np.array(
        [
            _sample_row(logits[i], temperature[i], top_k[i], top_p[i], min_p[i], seeds[i], steps[i])
            for i in range(len(logits))
        ],
        np.int32,
    )


def _sample_row(
    row: F32,
    temperature: np.float32,
    top_k: np.int32,
    top_p: np.float32,
    min_p: np.float32,
    seed: np.uint64,
    step: np.uint64,
) -> int:
    if temperature == 0:
        return int(row.argmax())
    order = np.argsort(-row, kind="stable")
    if top_k > 0:
        order = order[:top_k]
    scaled = (row[order].astype(np.float64) - row[order[0]]) / float(temperature)
    weights = np.exp(scaled)
    weights /= weights.sum()
    before = np.cumsum(weights) - weights
    keep = (before < top_p) & (weights >= min_p * weights[0])
    keep[0] = True
    weights = np.where(keep, weights, 0.0)
    cumulative = np.cumsum(weights)
    target = uniform(int(seed), int(step)) * cumulative[-1]
    return int(order[min(np.searchsorted(cumulative, target, side="right"), len(order) - 1)])


def uniform(seed: int, step: int) -> float:
    """A number in [0, 1) for each seed and step: SplitMix64 over both."""
    return (_mix(_mix(seed) ^ step) >> 11) * 2.0**-53


def _mix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def logprobs(logits: F32, chosen: I32, num_top: int) -> tuple[F32, I32, F32]:
    """Log probabilities of `chosen` (m,) and of the best `num_top` tokens (m, num_top), best
    first."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=1, keepdims=True))
    top = np.argsort(-logits, axis=1, kind="stable")[:, :num_top].astype(np.int32)
    of_chosen = np.take_along_axis(wide, chosen[:, None].astype(np.int64), axis=1)[:, 0]
    of_top = np.take_along_axis(wide, top.astype(np.int64), axis=1)
    return of_chosen.astype(np.float32), top, of_top.astype(np.float32)


def penalize(
    row: F32,
    prompt_ids: I32,
    output_ids: I32,
    repetition: float,
    presence: float,
    frequency: float,
    bias_ids: I32,
    bias_values: F32,
) -> None:
    """Changes `row` (vocab_size,) in place.

    `repetition` divides positive and multiplies negative logits of every token of prompt and
    output; `presence` is subtracted once and `frequency` per occurrence, for tokens of the output;
    then the biases are added.
    """
    seen = np.union1d(prompt_ids, output_ids)
    row[seen] = np.where(row[seen] > 0, row[seen] / repetition, row[seen] * repetition)
    ids, counts = np.unique(output_ids, return_counts=True)
    row[ids] -= (presence + frequency * counts).astype(np.float32)
    np.add.at(row, bias_ids, bias_values)
