"""One directory for several models and number formats: misses, and never another one's KV."""

import subprocess
import sys
import time
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


SAVER = """
import sys
from artesian import LLM
from tests.context.test_real_models import GREEDY
small = {"kv_cache_memory_bytes": 1 << 26, "max_model_len": 512}
with LLM(sys.argv[1], context_pool=sys.argv[2], **small) as llm:
    print("ready", flush=True)
    for start in range(1_000_000):
        llm.generate([[1_000 + (start + 37 * i) % 30_000 for i in range(100)]], GREEDY)
"""


@pytest.mark.slow
def test_a_pool_is_shared_with_a_server_that_is_killed(smollm2_path: Path, pool: str) -> None:
    plain = answer(smollm2_path, None)
    command = [sys.executable, "-c", SAVER, str(smollm2_path), pool]
    for wait_s in (0.3, 0.8):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(wait_s)
            process.kill()
    again = answer(smollm2_path, None, context_pool=pool)
    assert again[0] == plain[0]
    assert again[1] == 3, "what the first one saved"
