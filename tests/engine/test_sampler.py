"""Which kernels act on which rows; the kernels themselves are tested beside."""

import numpy as np
import numpy.typing as npt
import pytest

from artesian.engine.base import Request, SamplingParams
from artesian.engine.detokenizer import Detokenizer
from artesian.engine.sampler import Sampler, add_prompt_logprobs
from artesian.engine.sequence import RequestState, Sequence
from artesian.kvcache import BlockHasher, KvIdentity
from tests.engine.toy import ToyTokenizer

VOCAB_SIZE = 50
EOS = 3
NAN = float("nan")


def make(seed: int = 0, output: tuple[int, ...] = (), **params: object) -> Sequence:
    request = Request(
        request_id="r",
        prompt_token_ids=[1, 2],
        sampling=SamplingParams(**params),  # type: ignore[arg-type]
    )
    state = RequestState(request, 0, 0.0, BlockHasher(KvIdentity("m", "f32", 4)))
    sequence = Sequence(state, 0, seed, 100, frozenset({EOS}), Detokenizer(ToyTokenizer(), []))
    for token_id in output:
        sequence.append(token_id)
    return sequence


def rows(num: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((num, VOCAB_SIZE)).astype(np.float32)


def test_greedy_takes_the_largest_with_and_without_company() -> None:
    logits = rows(3)
    best = logits.argmax(axis=1).tolist()
    greedy = [make(temperature=0) for _ in range(3)]
    assert Sampler().sample(logits.copy(), greedy).tokens == best
    mixed = [make(temperature=0), make(temperature=2.0, seed=5), make(temperature=0)]
    tokens = Sampler().sample(logits.copy(), mixed).tokens
    assert (tokens[0], tokens[2]) == (best[0], best[2])


def test_a_choice_depends_on_row_seed_and_step_alone() -> None:
    logits = np.repeat(rows(1), 6, axis=0)
    sampler = Sampler()
    seeds = [7, 7, 8, 9, 10, 11]
    together = sampler.sample(logits.copy(), [make(s, temperature=1.5) for s in seeds]).tokens
    assert together[0] == together[1]
    assert len(set(together)) > 1
    for seed, token in zip(seeds, together, strict=True):
        assert sampler.sample(logits[:1].copy(), [make(seed, temperature=1.5)]).tokens == [token]
    draws = {
        sampler.sample(logits[:1].copy(), [make(7, (9,) * step, temperature=1.5)]).tokens[0]
        for step in range(30)
    }
    assert len(draws) > 3


def test_kept_arrays_follow_the_sequences() -> None:
    logits = np.repeat(rows(1), 2, axis=0)
    sampler = Sampler()
    hot, cold = make(1, temperature=5.0), make(1, temperature=0.01, top_k=1)
    first = sampler.sample(logits.copy(), [hot, cold]).tokens
    assert sampler.sample(logits.copy(), [cold, hot]).tokens == first[::-1]


@pytest.mark.parametrize(
    ("params", "output"),
    [
        ({"logit_bias": {9: 50.0}}, ()),
        ({"min_tokens": 1, "logit_bias": {EOS: 100.0, 9: 50.0}}, ()),
        ({"frequency_penalty": 2.0, "logit_bias": {8: 51.0, 9: 50.0}}, (8,)),
        ({"presence_penalty": 2.0, "logit_bias": {8: 51.0, 9: 50.0}}, (8, 8)),
        ({"repetition_penalty": 9.0, "logit_bias": {1: 51.0, 9: 50.0}}, ()),
    ],
)
def test_biases_and_penalties_change_the_choice(
    params: dict[str, object], output: tuple[int, ...]
) -> None:
    assert Sampler().sample(rows(1), [make(0, output, temperature=0, **params)]).tokens == [9]


def test_log_probabilities_are_those_of_the_model() -> None:
    logits = rows(2)
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    asked = make(temperature=0, logprobs=2, logit_bias={9: 50.0})
    sampled = Sampler().sample(logits.copy(), [make(temperature=0), asked])
    assert sampled.logprobs is not None
    assert sampled.logprobs[0] is None
    entry = sampled.logprobs[1]
    assert entry is not None
    assert entry.chosen.token_id == 9
    assert entry.chosen.logprob == pytest.approx(expected[1, 9], abs=1e-5)
    assert [top.token_id for top in entry.top] == np.argsort(-logits[1])[:2].tolist()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("logprobs", [None, 1])
@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf")])
def test_bad_rows_fail_alone(temperature: float, logprobs: int | None, bad: float) -> None:
    logits = rows(3)
    good = Sampler().sample(
        logits.copy(), [make(temperature=temperature, logprobs=logprobs) for _ in range(3)]
    )
    logits[1] = bad
    sampled = Sampler().sample(
        logits, [make(temperature=temperature, logprobs=logprobs) for _ in range(3)]
    )
    assert sampled.failed == {1}
    assert (sampled.tokens[0], sampled.tokens[2]) == (good.tokens[0], good.tokens[2])
    if logprobs is not None:
        assert sampled.logprobs is not None
        assert good.logprobs is not None
        assert sampled.logprobs[::2] == good.logprobs[::2]
        assert sampled.logprobs[1] is None


def test_prompt_logprobs_continue_where_they_stopped() -> None:
    sequence = make(prompt_logprobs=1)
    sequence.prompt_logprobs = [None]
    add_prompt_logprobs(sequence, 0, rows(1))
    known = list(sequence.prompt_logprobs)
    assert len(known) == 2
    assert known[1] is not None
    assert known[1].chosen.token_id == 2
    add_prompt_logprobs(sequence, 0, rows(2))
    assert sequence.prompt_logprobs == known
