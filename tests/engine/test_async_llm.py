"""`AsyncLLM` over the toy model."""

import asyncio

import pytest

from artesian.engine.async_llm import AsyncLLM
from artesian.engine.base import InvalidRequestError, QueueFullError, SamplingParams
from tests.engine.toy import assert_no_leak, generate, greedy, make_engine


async def tokens(llm: AsyncLLM, prompt: list[int], params: SamplingParams) -> list[int]:
    return [t async for output in llm.generate(prompt, params) for t in output.token_ids]


async def test_requests_run_together_each_with_its_own_tokens() -> None:
    engine = make_engine()
    async with AsyncLLM.from_engine(engine) as llm:
        together = await asyncio.gather(*(tokens(llm, [i, 1], greedy(9)) for i in range(12)))
    for i, got in enumerate(together):
        assert got == generate(make_engine(), [i, 1], greedy(9)).tokens
    assert_no_leak(engine)


async def test_text_prompts_and_several_completions() -> None:
    async with AsyncLLM.from_engine(make_engine()) as llm:
        params = SamplingParams(n=3, max_tokens=4, seed=1)
        ends = [o.index async for o in llm.generate("abc", params) if o.finish_reason]
    assert sorted(ends) == [0, 1, 2]


async def test_leaving_early_cancels() -> None:
    engine = make_engine()
    async with AsyncLLM.from_engine(engine) as llm:
        stream = llm.generate([1], greedy(100, ignore_eos=True))
        async for _ in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]
        await tokens(llm, [2], greedy(2))
    while engine.has_work():
        engine.step()
    assert_no_leak(engine)


async def test_errors_reach_the_caller() -> None:
    async with AsyncLLM.from_engine(make_engine(max_num_seqs=1, max_queue_len=1)) as llm:
        with pytest.raises(InvalidRequestError, match="no tokens"):
            await tokens(llm, [], greedy())
        results = await asyncio.gather(
            *(tokens(llm, [i], greedy(90, ignore_eos=True)) for i in range(20)),
            return_exceptions=True,
        )
        assert any(isinstance(result, QueueFullError) for result in results)
        assert any(isinstance(result, list) for result in results)
    with pytest.raises(RuntimeError, match="closed"):
        await tokens(llm, [1], greedy())


async def test_closing_ends_what_is_running() -> None:
    llm = AsyncLLM.from_engine(make_engine(max_model_len=200))
    running = asyncio.create_task(tokens(llm, [1], greedy(190, ignore_eos=True)))
    await asyncio.sleep(0.001)
    await llm.close()
    with pytest.raises(RuntimeError, match="closed"):
        await running
