"""The sampling kernels against a slow twin in numpy."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from artesian import _core

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]


def sample(logits: F32, num_draws: int = 1, **params: Any) -> I32:
    """Tokens of `num_draws` draws (steps 0, 1, ...) from one row of logits."""
    return sample_rows(
        np.broadcast_to(logits, (num_draws, logits.size)).copy(),
        steps=np.arange(num_draws),
        **params,
    )


def sample_rows(logits: F32, **params: Any) -> I32:
    num_rows = len(logits)

    def column(name: str, default: float, dtype: type) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = np.asarray(params.get(name, default), dtype)
        return np.ascontiguousarray(np.broadcast_to(values, num_rows))

    return _core.sample(
        logits,
        column("temperature", 1, np.float32),
        column("top_k", 0, np.int32),
        column("top_p", 1, np.float32),
        column("min_p", 0, np.float32),
        column("seeds", 7, np.uint64),
        column("steps", 0, np.uint64),
    )


def twin(
    logits: F32, temperature: float = 1, top_k: float = 0, top_p: float = 1, min_p: float = 0
) -> npt.NDArray[np.float64]:
    """Probability of each token, straight from the definitions."""
    scaled = (logits.astype(np.float64) - logits.max()) / temperature
    probabilities: npt.NDArray[np.float64] = np.exp(scaled) / np.exp(scaled).sum()
    probabilities[probabilities < min_p * probabilities.max()] = 0
    order = np.argsort(-logits, kind="stable")
    if top_k > 0:
        probabilities[order[int(top_k) :]] = 0
    probabilities /= probabilities.sum()
    before = np.cumsum(probabilities[order]) - probabilities[order]
    probabilities[order[before >= top_p]] = 0
    probabilities /= probabilities.sum()
    return probabilities


FILTERS: list[dict[str, float]] = [
    {},
    {"temperature": 0.4},
    {"temperature": 2.5},
    {"top_k": 1},
    {"top_k": 5},
    {"top_k": 1000},
    {"top_p": 0.3},
    {"top_p": 0.8},
    {"min_p": 0.2},
    {"min_p": 1.0},
    {"temperature": 1.7, "top_k": 9, "top_p": 0.9},
    {"temperature": 1.5, "min_p": 0.1, "top_p": 0.7},
    {"temperature": 1.5, "min_p": 0.05, "top_k": 6, "top_p": 0.85},
]


@pytest.mark.parametrize("params", FILTERS, ids=str)
def test_draws_follow_the_distribution(params: dict[str, float]) -> None:
    logits = (np.random.default_rng(3).standard_normal(40) * 1.5).astype(np.float32)
    expected = twin(logits, **params) * 20_000
    counts = np.bincount(sample(logits, 20_000, **params), minlength=40)
    assert set(np.flatnonzero(counts)) <= set(np.flatnonzero(expected))
    likely = expected > 5
    chi_square = ((counts - expected)[likely] ** 2 / expected[likely]).sum()
    # Mean plus five standard deviations of chi-square with as many degrees of freedom.
    degrees = likely.sum()
    assert chi_square < degrees + 5 * np.sqrt(2 * degrees)


@pytest.mark.parametrize("params", FILTERS, ids=str)
def test_every_candidate_is_drawn_and_no_other(params: dict[str, float]) -> None:
    logits = np.random.default_rng(5).uniform(-1, 1, 30).astype(np.float32)
    tokens = set(sample(logits, 8_000, **params).tolist())
    assert tokens == set(np.flatnonzero(twin(logits, **params)).tolist())


@pytest.mark.parametrize("vocab_size", [1, 63, 64, 65, 1_000, 49_152, 262_144])
def test_greedy_takes_the_lowest_of_the_best(vocab_size: int) -> None:
    rng = np.random.default_rng(vocab_size)
    logits = np.round(rng.standard_normal((3, vocab_size)) * 4).astype(np.float32)
    np.testing.assert_array_equal(sample_rows(logits, temperature=0), logits.argmax(axis=1))
    np.testing.assert_array_equal(sample_rows(logits, top_k=1), logits.argmax(axis=1))
    tiny = sample_rows(logits, temperature=1e-30)
    np.testing.assert_array_equal(tiny, logits.argmax(axis=1))


@pytest.mark.parametrize("top_p", [0.5, 0.95, 0.9999])
@pytest.mark.parametrize("spread", [0.01, 1, 8])
def test_a_nucleus_in_a_real_vocabulary_holds_its_mass(top_p: float, spread: float) -> None:
    logits = (np.random.default_rng(1).standard_normal(49_152) * spread).astype(np.float32)
    nucleus = np.flatnonzero(twin(logits, top_p=top_p))
    tokens = sample(logits, 100, top_p=top_p)
    assert np.isin(tokens, nucleus).all()
    if len(nucleus) > 1000:
        assert len(set(tokens.tolist())) > 90


def test_masked_tokens_are_never_drawn() -> None:
    logits = np.full(300, -np.inf, np.float32)
    logits[[17, 250]] = 0
    for filters in FILTERS:
        assert set(sample(logits, 500, **filters).tolist()) <= {17, 250}
    assert set(sample(logits, 500).tolist()) == {17, 250}


def test_a_choice_depends_on_its_row_seed_and_step_alone() -> None:
    rng = np.random.default_rng(11)
    logits = rng.standard_normal((16, 500)).astype(np.float32)
    params = {
        "temperature": rng.choice([0, 0.7, 1.3], 16),
        "top_k": rng.choice([0, 20], 16),
        "top_p": rng.choice([0.8, 1], 16),
        "min_p": rng.choice([0, 0.05], 16),
        "seeds": rng.integers(0, 2**63, 16),
        "steps": rng.integers(0, 1000, 16),
    }
    together = sample_rows(logits, **params)
    order = rng.permutation(16)
    shuffled = sample_rows(logits[order], **{name: p[order] for name, p in params.items()})
    np.testing.assert_array_equal(shuffled, together[order])
    for i in range(16):
        alone = sample_rows(logits[i : i + 1], **{name: p[i] for name, p in params.items()})
        assert alone[0] == together[i]


def test_seeds_and_steps_give_other_choices() -> None:
    logits = np.zeros((200, 10_000), np.float32)
    assert len(set(sample_rows(logits, seeds=np.arange(200)).tolist())) > 190
    assert len(set(sample_rows(logits, steps=np.arange(200)).tolist())) > 190
    assert len(set(sample_rows(logits).tolist())) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("temperature", [0, 1])
def test_bad_logits_name_their_rows(bad: float, temperature: float) -> None:
    logits = np.zeros((4, 100), np.float32)
    if bad == -np.inf:
        logits[[1, 3]] = bad
    else:
        logits[[1, 3], 70] = bad
    with pytest.raises(_core.InvalidLogitsError, match="row 1: ") as raised:
        sample_rows(logits, temperature=temperature)
    assert raised.value.rows == [1, 3]
    with pytest.raises(_core.InvalidLogitsError) as raised:
        _core.logprobs(logits, np.zeros(4, np.int32), 2)
    assert raised.value.rows == [1, 3]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"temperature": [1, -1]}, r"temperature\[1\] is -1, expected a finite number >= 0"),
        ({"temperature": np.inf}, r"temperature\[0\] is inf"),
        ({"temperature": np.nan}, r"temperature\[0\] is NaN"),
        ({"top_p": 0}, r"top_p\[0\] is 0, expected 0 < top_p <= 1"),
        ({"top_p": 1.5}, r"top_p\[0\] is 1.5"),
        ({"min_p": [0, np.nan]}, r"min_p\[1\] is NaN, expected 0 <= min_p <= 1"),
    ],
)
def test_parameters_out_of_range_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_rows(np.zeros((2, 8), np.float32), **params)


def test_arrays_that_do_not_fit_are_refused() -> None:
    f32, u64 = np.ones(2, np.float32), np.ones(2, np.uint64)
    logits, top_k = np.zeros((2, 8), np.float32), np.zeros(2, np.int32)
    with pytest.raises(ValueError, match="seeds has 1 entries, expected 2"):
        _core.sample(logits, f32, top_k, f32, f32, u64[:1], u64)
    with pytest.raises(TypeError):
        _core.sample(logits.astype(np.float64), f32, top_k, f32, f32, u64, u64)
    with pytest.raises(TypeError, match="contiguous"):
        _core.sample(np.zeros((2, 16), np.float32)[:, ::2], f32, top_k, f32, f32, u64, u64)


@pytest.mark.parametrize("num_top", [0, 1, 5, 20, 700])
def test_logprobs_match_log_softmax(num_top: int) -> None:
    rng = np.random.default_rng(2)
    logits = (rng.standard_normal((6, 700)) * 10).astype(np.float32)
    logits[0] = np.round(logits[0])
    chosen = rng.integers(0, 700, 6).astype(np.int32)
    values, top_ids, top_values = _core.logprobs(logits, chosen, num_top)
    wide = logits.astype(np.float64)
    expected = wide - np.logaddexp.reduce(wide, axis=1, keepdims=True)
    np.testing.assert_allclose(values, expected[np.arange(6), chosen], rtol=1e-6, atol=1e-6)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :num_top]
    np.testing.assert_array_equal(top_ids, order)
    best = np.take_along_axis(expected, order, axis=1)
    np.testing.assert_allclose(top_values, best, rtol=1e-6, atol=1e-6)


def test_logprobs_of_masked_tokens_are_left_out() -> None:
    logits = np.full((1, 50), -np.inf, np.float32)
    logits[0, 9] = 3
    values, top_ids, top_values = _core.logprobs(logits, np.array([4], np.int32), 3)
    assert values.tolist() == [-np.inf]
    assert top_ids.tolist() == [[9, -1, -1]]
    assert top_values.tolist() == [[0, -np.inf, -np.inf]]


def test_logprobs_refuse_what_is_no_token() -> None:
    logits = np.zeros((1, 50), np.float32)
    with pytest.raises(ValueError, match=r"chosen\[0\] is 50, expected a token id from 0 to 49"):
        _core.logprobs(logits, np.array([50], np.int32), 1)
    with pytest.raises(ValueError, match="num_top is 51, but there are 50 tokens"):
        _core.logprobs(logits, np.array([0], np.int32), 51)


def penalize(row: F32, **params: Any) -> None:
    def ids(name: str) -> I32:
        return np.asarray(params.get(name, []), np.int32)

    _core.penalize(
        row,
        ids("prompt_ids"),
        ids("output_ids"),
        params.get("repetition", 1.0),
        params.get("presence", 0.0),
        params.get("frequency", 0.0),
        ids("bias_ids"),
        np.asarray(params.get("bias_values", []), np.float32),
    )


def test_penalties_match_their_definitions() -> None:
    rng = np.random.default_rng(4)
    row = rng.standard_normal(300).astype(np.float32)
    prompt, output = rng.integers(0, 300, 80), rng.integers(0, 300, 200)
    expected = row.copy()
    expected[[3, 9]] += np.array([2.5, -np.inf], np.float32)
    seen = np.isin(np.arange(300), np.concatenate([prompt, output]))
    rate = np.float32(1.3)
    expected = np.where(seen, np.where(expected > 0, expected / rate, expected * rate), expected)
    counts = np.bincount(output, minlength=300)
    expected -= np.float32(0.4) * counts.astype(np.float32) + np.float32(0.7) * (counts > 0)
    penalize(
        row,
        prompt_ids=prompt,
        output_ids=output,
        repetition=1.3,
        presence=0.7,
        frequency=0.4,
        bias_ids=[3, 9],
        bias_values=[2.5, -np.inf],
    )
    np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"prompt_ids": [1, 8]}, r"prompt_ids\[1\] is 8, expected a token id from 0 to 7"),
        ({"output_ids": [-1]}, r"output_ids\[0\] is -1"),
        ({"bias_ids": [99], "bias_values": [1]}, r"bias_ids\[0\] is 99"),
        ({"bias_ids": [1], "bias_values": []}, "bias_values has 0 entries, expected 1"),
        ({"bias_ids": [1], "bias_values": [np.nan]}, r"bias_values\[0\] is NaN"),
        ({"repetition": 0.0}, "repetition.* is 0, expected a finite number > 0"),
        ({"presence": np.inf}, "presence.* is inf, expected a finite number"),
        ({"frequency": np.nan}, "frequency.* is NaN, expected a finite number"),
    ],
)
def test_penalties_out_of_range_leave_the_row_alone(params: dict[str, Any], message: str) -> None:
    row = np.ones(8, np.float32)
    with pytest.raises(ValueError, match=message):
        penalize(row, **params)
    assert (row == 1).all()
