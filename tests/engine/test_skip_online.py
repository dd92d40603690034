"""Requests that leave out more once their first tokens have been looked at: in numpy."""

from functools import partial
from pathlib import Path

import pytest

from artesian.config.engine import EngineConfig
from artesian.engine.approximation import SkipChoice
from artesian.engine.base import EngineInfo, Request, SamplingParams
from artesian.engine.engine import LLMEngine
from artesian.kvcache import Arena, KvIdentity, PrefixCache
from artesian.loader import open_checkpoint
from artesian.loader.reference import ReferenceRunner
from artesian.ops.base import KvLayout
from artesian.skip import Calibration, OnlineExtension, SkipSet
from tests.engine.toy import ToyTokenizer, assert_no_leak, run
from tests.golden import tiny_models

BLOCK_SIZE = 8
WATCHED = 6
GREEDY = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write("gemma3", tmp_path_factory.mktemp("tiny"))


def make_engine(model: Path, watched: int, num_blocks: int = 200, **config: object) -> LLMEngine:
    checkpoint = open_checkpoint(model)
    shape = checkpoint.config
    layout = KvLayout(shape.num_layers, shape.num_kv_heads, shape.head_dim, BLOCK_SIZE, dtype="f32")
    count = 2 * shape.num_layers
    calibration = Calibration(
        model="tiny",
        fingerprint=checkpoint.fingerprint(),
        similarities=(0.2,) * count,
        scales=(1.1,) * count,
        spreads=(0.0,) * count,
        windows=(0,) * shape.num_layers,
        prompt_hashes=(),
        num_tokens=1,
    )
    extend = partial(OnlineExtension, calibration, num_watched=watched)
    choice = SkipChoice(
        most=1,
        default=0,
        choose=lambda _: SkipSet((4,), (1.1,)),
        extend=extend if watched else None,
        num_watched=watched,
        num_sublayers=count,
    )
    return LLMEngine(
        ReferenceRunner(checkpoint, layout, num_blocks),
        ToyTokenizer(),
        PrefixCache(Arena(num_blocks, 64)),
        KvIdentity(checkpoint.fingerprint(), "f32", BLOCK_SIZE),
        EngineConfig(model="tiny", block_size=BLOCK_SIZE, **config),
        EngineInfo(model_name="tiny", max_model_len=96, vocab_size=shape.vocab_size),
        skips=choice,
    )


def prompt(number: int) -> list[int]:
    return [(number * 91 + i * 53) % 500 + 3 for i in range(19 + number)]


def request(number: int, num_skipped: int, name: str = "") -> Request:
    return Request(
        request_id=f"{name}{num_skipped}-{number}",
        prompt_token_ids=prompt(number),
        sampling=GREEDY,
        num_skipped=num_skipped,
    )


def answers(engine: LLMEngine, *requests: Request) -> dict[str, list[int]]:
    found = {name: done.tokens for name, done in run(engine, *requests).items()}
    assert_no_leak(engine)
    return found


@pytest.fixture(scope="module")
def alone(model: Path) -> dict[str, list[int]]:
    """What each request gives by itself."""
    return {
        name: tokens
        for number in range(4)
        for kind in (0, 1)
        for name, tokens in answers(make_engine(model, WATCHED), request(number, kind)).items()
    }


def test_more_is_left_out_behind_the_watched_tokens(
    model: Path, alone: dict[str, list[int]]
) -> None:
    fixed = answers(make_engine(model, 0), *(request(number, 1) for number in range(4)))
    for name, tokens in fixed.items():
        assert alone[name][: WATCHED + 1] == tokens[: WATCHED + 1]
    assert any(alone[name] != tokens for name, tokens in fixed.items())


def test_beside_others_and_in_chunks(model: Path, alone: dict[str, list[int]]) -> None:
    for budget in (5, 64):
        engine = make_engine(model, WATCHED, max_num_batched_tokens=budget)
        requests = [request(number, kind) for number in range(4) for kind in (0, 1)]
        assert answers(engine, *requests) == alone
        again = [request(number, kind, "again ") for number in range(4) for kind in (0, 1)]
        found = answers(engine, *again)
        assert {name.removeprefix("again "): tokens for name, tokens in found.items()} == alone


def test_preemption_changes_nothing(model: Path, alone: dict[str, list[int]]) -> None:
    engine = make_engine(model, WATCHED, num_blocks=16)
    assert answers(engine, *(request(n, kind) for n in range(4) for kind in (0, 1))) == alone
    assert engine.stats().num_preemptions > 0


def test_going_on_after_a_death_changes_nothing(model: Path, alone: dict[str, list[int]]) -> None:
    """Tokens that another engine has generated are looked at like one's own."""
    for num_known in (2, WATCHED, WATCHED + 9):
        known = alone["1-2"][:num_known]
        rest = Request(
            request_id="rest",
            prompt_token_ids=prompt(2),
            output_token_ids=known,
            sampling=GREEDY,
            num_skipped=1,
        )
        assert [*known, *answers(make_engine(model, WATCHED), rest)["rest"]] == alone["1-2"]


def test_only_the_prompt_s_kv_is_shared(model: Path, alone: dict[str, list[int]]) -> None:
    engine = make_engine(model, WATCHED)
    answers(engine, request(3, 1))
    longer = [*prompt(3), *alone["1-3"]]
    for kind, expected in ((1, len(prompt(3)) // BLOCK_SIZE * BLOCK_SIZE), (0, 0)):
        asked = Request(
            request_id=f"longer {kind}",
            prompt_token_ids=longer,
            sampling=GREEDY,
            num_skipped=kind,
        )
        before = engine.stats().prefix_cache_hits_tokens
        answers(engine, asked)
        assert engine.stats().prefix_cache_hits_tokens - before == expected
