"""The engine over the Rust kernels and real weights: no token depends on how it was scheduled."""

import random
from pathlib import Path

import pytest

from artesian import LLM, SamplingParams

pytestmark = pytest.mark.slow

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "seven", "wizards", "brewing"]
PARAMS = {
    "greedy": SamplingParams(temperature=0, max_tokens=12, ignore_eos=True),
    "seeded": SamplingParams(seed=3, max_tokens=12, ignore_eos=True),
}
MAX_MODEL_LEN = 256


def prompts() -> list[str]:
    """16 prompts of about 10 to 120 tokens; every other one begins like the others."""
    common = "Once upon a time, in a village at the edge of a dark forest, there lived an old man. "
    rng = random.Random(0)
    return [
        common * (i % 2) + " ".join(rng.choice(WORDS) for _ in range(8 + 6 * i)) for i in range(16)
    ]


def tokens(llm: LLM, prompts: list[str], params: SamplingParams) -> list[list[int]]:
    results = llm.generate(prompts, params)
    assert not llm.engine.has_work()
    assert llm.engine.cache.num_used_blocks == 0
    return [result.outputs[0].token_ids for result in results]


@pytest.fixture(scope="module", params=["smollm2_path", "gemma3_path"])
def model(request: pytest.FixtureRequest) -> str:
    path: Path = request.getfixturevalue(request.param)
    return str(path)


@pytest.fixture(scope="module")
def alone(model: str) -> dict[str, list[list[int]]]:
    """What each prompt gives by itself, whole, without a prefix cache."""
    with LLM(model, enable_prefix_caching=False, max_model_len=MAX_MODEL_LEN) as llm:
        return {
            name: [tokens(llm, [prompt], params)[0] for prompt in prompts()]
            for name, params in PARAMS.items()
        }


@pytest.mark.parametrize("kind", PARAMS)
def test_in_a_batch_of_16_and_with_prefix_hits(
    model: str, alone: dict[str, list[list[int]]], kind: str
) -> None:
    with LLM(model, max_model_len=MAX_MODEL_LEN, max_num_seqs=16) as llm:
        assert tokens(llm, prompts(), PARAMS[kind]) == alone[kind]
        before = llm.engine.stats().prefix_cache_hits_tokens
        assert tokens(llm, prompts(), PARAMS[kind]) == alone[kind]
        assert llm.engine.stats().prefix_cache_hits_tokens > before + 500


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_with_chunks_of_any_size(model: str, alone: dict[str, list[list[int]]], chunk: int) -> None:
    some = slice(4, 6) if chunk == 1 else slice(0, 16, 3)
    with LLM(model, max_model_len=MAX_MODEL_LEN, max_num_batched_tokens=chunk) as llm:
        assert tokens(llm, prompts()[some], PARAMS["greedy"]) == alone["greedy"][some]


def test_after_preemption(model: str) -> None:
    params = SamplingParams(temperature=0, max_tokens=72, ignore_eos=True)
    some = prompts()[4:7]
    with LLM(model, max_model_len=MAX_MODEL_LEN) as llm:
        alone = [tokens(llm, [prompt], params)[0] for prompt in some]
        block_bytes = llm.engine.info().memory_plan_bytes["kv_block"]
    memory = MAX_MODEL_LEN // 32 * block_bytes
    with LLM(model, max_model_len=MAX_MODEL_LEN, kv_cache_memory_bytes=memory) as llm:
        assert tokens(llm, some, params) == alone
        assert llm.engine.stats().num_preemptions > 0
