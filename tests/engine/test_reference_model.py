"""The engine over a real (tiny, random) transformer in numpy: sharing and chunks change nothing."""

from collections.abc import Callable

import pytest

from artesian.config.engine import EngineConfig
from artesian.engine.base import EngineInfo, Request, SamplingParams
from artesian.engine.engine import LLMEngine
from artesian.kvcache import Arena, KvIdentity, PrefixCache
from artesian.loader import open_checkpoint
from artesian.loader.reference import ReferenceRunner
from artesian.ops.base import KvLayout
from tests.engine.toy import ToyTokenizer, assert_no_leak, run
from tests.golden import tiny_models

BLOCK_SIZE = 8
MAX_MODEL_LEN = 96
PARAMS = [
    SamplingParams(temperature=0, max_tokens=18, ignore_eos=True),
    SamplingParams(seed=1, max_tokens=18, ignore_eos=True),
]
MakeEngine = Callable[..., LLMEngine]


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def make_engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> MakeEngine:
    directory = tiny_models.write(request.param, tmp_path_factory.mktemp("models"))
    checkpoint = open_checkpoint(directory)
    model = checkpoint.config

    def make(num_blocks: int = 200, **config: object) -> LLMEngine:
        layout = KvLayout(
            model.num_layers, model.num_kv_heads, model.head_dim, BLOCK_SIZE, dtype="f32"
        )
        return LLMEngine(
            ReferenceRunner(checkpoint, layout, num_blocks),
            ToyTokenizer(),
            PrefixCache(Arena(num_blocks, 64)),
            KvIdentity(checkpoint.fingerprint(), "f32", BLOCK_SIZE),
            EngineConfig(model="tiny", block_size=BLOCK_SIZE, **config),
            EngineInfo(model_name="tiny", max_model_len=MAX_MODEL_LEN, vocab_size=model.vocab_size),
        )

    return make


def prompts() -> list[list[int]]:
    """Ten prompts of 3 to 45 tokens; every other one begins like the others."""
    common = [i * 37 % 500 + 3 for i in range(24)]
    return [
        (common if i % 2 else []) + [(i * 91 + j * 53) % 500 + 3 for j in range(3 + 2 * i)]
        for i in range(10)
    ]


def tokens(engine: LLMEngine, prompts: list[list[int]], params: SamplingParams) -> list[list[int]]:
    requests = [
        Request(request_id=str(i), prompt_token_ids=prompt, sampling=params)
        for i, prompt in enumerate(prompts)
    ]
    results = run(engine, *requests)
    assert_no_leak(engine)
    return [results[str(i)].tokens for i in range(len(prompts))]


@pytest.mark.parametrize("params", PARAMS)
def test_tokens_do_not_depend_on_company_chunks_hits_or_preemption(
    make_engine: MakeEngine, params: SamplingParams
) -> None:
    alone = [tokens(make_engine(), [prompt], params)[0] for prompt in prompts()]
    engine = make_engine()
    assert tokens(engine, prompts(), params) == alone
    assert tokens(engine, prompts(), params) == alone, "second time, with prefix hits"
    assert engine.stats().prefix_cache_hits_tokens > 150
    for chunk in (7, 64):
        assert tokens(make_engine(max_num_batched_tokens=chunk), prompts(), params) == alone
    tight = make_engine(num_blocks=MAX_MODEL_LEN // BLOCK_SIZE, max_num_seqs=8)
    assert tokens(tight, prompts(), params) == alone
    assert tight.stats().num_preemptions > 0


def test_chunks_of_one_token(make_engine: MakeEngine) -> None:
    some = prompts()[5:7]
    whole = tokens(make_engine(), some, PARAMS[0])
    assert tokens(make_engine(max_num_batched_tokens=1), some, PARAMS[0]) == whole
