"""One directory for several models and number formats: misses, and never another one's KV."""

from pathlib import Path
from typing import Any

import pytest

from artesian import LLM, SamplingParams

pytest.importorskip("artesian._core", reason="the native module is not built")

PROMPT = [1_000 + 37 * i % 30_000 for i in range(100)]
GREEDY = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)


def answer(model: Path, directory: Path | None, **settings: Any) -> tuple[list[int], int]:
    """Tokens, and blocks that came from the directory."""
    small = {"kv_cache_memory_bytes": 1 << 26, "max_model_len": 512}
    with LLM(str(model), context_cache_dir=directory, **(small | settings)) as llm:
        [result] = llm.generate([PROMPT], GREEDY)
        loaded = sum(tier.loaded_blocks for tier in llm.engine.stats().context_tiers)
    return list(result.outputs[0].token_ids), loaded


@pytest.mark.slow
def test_what_numbers_depend_on_separates_blocks(
    smollm2_path: Path, gemma3_path: Path, tmp_path: Path
) -> None:
    plain = answer(smollm2_path, None)
    assert answer(smollm2_path, tmp_path) == plain
    assert answer(smollm2_path, tmp_path) == (plain[0], 3)
    for model, settings in (
        (smollm2_path, {"kv_cache_dtype": "int8"}),
        (smollm2_path, {"kv_cache_dtype": "f32"}),
        (smollm2_path, {"quantization": "int8"}),
        (smollm2_path, {"isa": "avx2"}),
        (gemma3_path, {}),
    ):
        expected = answer(model, None, **settings)
        assert answer(model, tmp_path, **settings) == expected
        assert answer(model, tmp_path, **settings) == (expected[0], 3)
    assert answer(smollm2_path, tmp_path) == (plain[0], 3)
