"""Real weights: answers of exact requests are the same beside others and behind them."""

from pathlib import Path

import pytest

from artesian import LLM, SamplingParams
from artesian.attention import SparseAttention
from artesian.engine.base import Request
from tests.engine.toy import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GREEDY = SamplingParams(temperature=0, max_tokens=48, ignore_eos=True)
SPARSE = SparseAttention(
    selector="progressive", epsilon=0.6, budget_tokens=128, min_context_tokens=256
)
MODES = [SPARSE, SparseAttention(selector="window", budget_tokens=128, min_context_tokens=256)]
MAX_MODEL_LEN = 2048


def prompt_of(llm: LLM, number: int) -> list[int]:
    """About 700 tokens."""
    words = " ".join(f"In year {number + i} they found {i * 7 % 13} old coins." for i in range(60))
    return llm.tokenizer.encode(words)[:700]


@pytest.fixture(scope="module", params=["smollm2_path", "gemma3_path"])
def model(request: pytest.FixtureRequest) -> str:
    path: Path = request.getfixturevalue(request.param)
    return str(path)


def test_exact_requests_beside_sparse_ones(model: str, tmp_path: Path) -> None:
    """In one batch, from the prefix cache, and from disk after a restart; the reference is an
    engine whose blocks have no summaries."""
    with LLM(model, max_model_len=MAX_MODEL_LEN) as llm:
        prompts = [prompt_of(llm, number) for number in range(3)]
        exact = [result.outputs[0].token_ids for result in llm.generate(prompts, GREEDY)]
        longer = [prompt + answer + [11, 12] for prompt, answer in zip(prompts, exact, strict=True)]
        exact_longer = [result.outputs[0].token_ids for result in llm.generate(longer, GREEDY)]
    settings = {
        "max_model_len": MAX_MODEL_LEN,
        "attention_summaries": True,
        "context_cache_dir": tmp_path,
    }
    with LLM(model, **settings) as llm:
        sparse = [llm.generate(prompts, GREEDY, attention=mode) for mode in MODES]
        assert any(
            result.outputs[0].token_ids != tokens
            for results in sparse
            for result, tokens in zip(results, exact, strict=True)
        ), "nothing was left out: the test tests nothing"
        requests = [
            Request(
                request_id=f"{kind}-{number}",
                prompt_token_ids=prompt,
                sampling=GREEDY,
                attention=attention,
            )
            for number, prompt in enumerate(prompts)
            for kind, attention in (("exact", None), ("sparse", SPARSE))
        ]
        done = run(llm.engine, *requests)
        for number, tokens in enumerate(exact):
            assert done[f"exact-{number}"].tokens == tokens
            assert done[f"sparse-{number}"].tokens == sparse[0][number].outputs[0].token_ids
        assert llm.engine.stats().attention_groups_read > 0
    with LLM(model, **settings) as llm:
        again = [result.outputs[0].token_ids for result in llm.generate(longer, GREEDY)]
        assert again == exact_longer
        found = llm.generate(longer, GREEDY)[0]
        assert found.num_cached_tokens > 600


def test_exact_requests_with_preemption(model: str) -> None:
    params = SamplingParams(temperature=0, max_tokens=300, ignore_eos=True)
    with LLM(model, max_model_len=1024) as llm:
        prompts = [prompt_of(llm, number)[:300] for number in range(2)]
        exact = [result.outputs[0].token_ids for result in llm.generate(prompts, params)]
    with LLM(model, max_model_len=1024, attention_summaries=True) as llm:
        block_bytes = llm.engine.info().memory_plan_bytes["kv_block"]
    memory = 1024 // 32 * block_bytes
    with LLM(
        model, max_model_len=1024, attention_summaries=True, kv_cache_memory_bytes=memory
    ) as llm:
        requests = [
            Request(
                request_id=f"{kind}-{number}",
                prompt_token_ids=prompt,
                sampling=params,
                attention=attention,
            )
            for number, prompt in enumerate(prompts)
            for kind, attention in (("sparse", SPARSE), ("exact", None))
        ]
        done = run(llm.engine, *requests)
        assert [done[f"exact-{number}"].tokens for number in range(2)] == exact
        assert llm.engine.stats().num_preemptions > 0
