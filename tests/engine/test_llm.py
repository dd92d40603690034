"""`LLM` over the toy model."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from artesian import LLM, SamplingParams
from artesian.engine.base import InvalidRequestError
from tests.engine.toy import assert_no_leak, generate, greedy, make_engine


def test_generate_takes_text_tokens_and_lists_in_order() -> None:
    with LLM.from_engine(make_engine()) as llm:
        [text] = llm.generate("hello", greedy(5))
        [tokens] = llm.generate(llm.tokenizer.encode("hello"), greedy(5))
        prompts: list[str | list[int]] = ["hello", [1, 2, 3]]
        both = llm.generate(prompts, [greedy(5), greedy(3)])
    assert (text.prompt, tokens.prompt) == ("hello", None)
    assert text.prompt_token_ids == tokens.prompt_token_ids
    assert text.outputs[0].token_ids == tokens.outputs[0].token_ids == both[0].outputs[0].token_ids
    assert both[1].outputs[0].token_ids == generate(make_engine(), [1, 2, 3], greedy(3)).tokens
    assert text.metrics.e2e_ms is not None


def test_token_ids_may_come_from_numpy() -> None:
    llm = LLM.from_engine(make_engine())
    [plain] = llm.generate([5, 6, 7], greedy(5))
    prompts: tuple[Any, ...] = (np.array([5, 6, 7]), (5, 6, 7), [np.array([5, 6, 7])])
    for prompt in prompts:
        [result] = llm.generate(prompt, greedy(5))
        assert result.outputs[0].token_ids == plain.outputs[0].token_ids
    with pytest.raises(InvalidRequestError, match="sequence of token ids"):
        llm.generate([[1.5]])  # type: ignore[arg-type]


def test_more_prompts_than_the_queue_holds() -> None:
    engine = make_engine(max_num_seqs=2, max_queue_len=3)
    results = LLM.from_engine(engine).generate([[i] for i in range(40)], greedy(4))
    assert [r.prompt_token_ids for r in results] == [[i] for i in range(40)]
    assert all(r.is_finished for r in results)
    assert_no_leak(engine)


def test_n_completions_come_back_together() -> None:
    params = SamplingParams(n=3, seed=1, max_tokens=4, logprobs=1)
    [result] = LLM.from_engine(make_engine()).generate("abc", params)
    assert [c.index for c in result.outputs] == [0, 1, 2]
    assert all(len(c.logprobs or []) == len(c.token_ids) for c in result.outputs)


def test_chat_applies_the_template_to_one_or_several_conversations() -> None:
    llm = LLM.from_engine(make_engine())
    hello = [{"role": "user", "content": "hi"}]
    [one] = llm.chat(hello, greedy(3))
    several = llm.chat([hello, [{"role": "user", "content": "ho"}]], greedy(3))
    assert one.prompt_token_ids == llm.tokenizer.encode("<user>hi")
    assert one.outputs[0].token_ids == several[0].outputs[0].token_ids
    assert len(several) == 2


def test_stream_yields_steps_and_cancels_when_left() -> None:
    engine = make_engine()
    llm = LLM.from_engine(engine)
    whole = "".join(output.text for output in llm.stream("abc", greedy(6)))
    assert whole == llm.generate("abc", greedy(6))[0].outputs[0].text
    for _ in llm.stream("abc", greedy(100, ignore_eos=True)):
        break
    engine.step()
    assert_no_leak(engine)


def test_errors_name_the_prompt_and_run_nothing() -> None:
    engine = make_engine(max_model_len=20)
    llm = LLM.from_engine(engine)
    with pytest.raises(InvalidRequestError, match=r"prompt 1: the prompt has 30 tokens.*20"):
        llm.generate([[1], [1] * 30], greedy())
    with pytest.raises(InvalidRequestError, match="2 prompts but 3"):
        llm.generate([[1], [2]], [greedy()] * 3)
    assert not engine.has_work()
    llm.close()
    with pytest.raises(RuntimeError, match="closed"):
        llm.generate("x")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import artesian, sys; print(sorted({'numpy', 'pydantic', 'msgspec'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
