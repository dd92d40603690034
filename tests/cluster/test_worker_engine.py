"""Two engines with a real model that compute prompts for each other: the tokens of one alone."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from artesian.cluster.worker_engine import create_engine
from artesian.config.engine import EngineConfig
from artesian.engine.base import Request, SamplingParams
from artesian.engine.engine import LLMEngine
from artesian.engine.handover import PrefillDone
from artesian.kvcache.region import region_names

MAX_MODEL_LEN = 1024
NUM_TOKENS = 12
LENGTHS = [300, 5, 447, 449, 700, 1_000]


def make_requests() -> list[Request]:
    """Of several lengths, about the ends of blocks too; two begin alike."""
    source = random.Random(0)
    prompts = [[source.randrange(1_000, 40_000) for _ in range(length)] for length in LENGTHS]
    prompts.append(prompts[4][:640] + prompts[0])
    return [
        Request(
            request_id=str(number),
            prompt_token_ids=prompt,
            sampling=SamplingParams(temperature=0, max_tokens=NUM_TOKENS, ignore_eos=True),
        )
        for number, prompt in enumerate(prompts)
    ]


class Pair:
    """A worker that decodes, one that prefills, and the front between them."""

    def __init__(self, model: str, **settings: object) -> None:
        name = f"test-{os.getpid()}"
        self.decode, self.prefill = (
            create_engine(
                EngineConfig(
                    model=model,
                    max_model_len=MAX_MODEL_LEN,
                    kv_cache_memory_bytes=200 << 20,
                    max_num_batched_tokens=256,
                    num_threads=2,
                    kv_region=f"{name}-{role}",
                    **settings,
                )
            )
            for role in ("decode", "prefill")
        )
        self.done: list[PrefillDone] = []
        assert self.decode.handover is not None
        self.decode.handover.set_peers(1)

    def relay(self) -> None:
        decode, prefill = self.decode.handover, self.prefill.handover
        assert decode is not None and prefill is not None
        for job in decode.take_wanted():
            prefill.add_job(job)
        for unwanted in decode.take_unwanted():
            prefill.cancel_job(*unwanted)
        for done in prefill.take_done():
            self.done.append(done)
            decode.end_job(done)

    def run(self, requests: list[Request]) -> dict[str, list[int]]:
        for request in requests:
            self.decode.add_request(request)
        found: dict[str, list[int]] = {request.request_id: [] for request in requests}
        for _ in range(100_000):
            for output in self.decode.step():
                assert output.error is None, output.error
                found[output.request_id] += output.token_ids
            self.prefill.step()
            self.relay()
            if not self.decode.has_work() and not self.prefill.has_work():
                return found
        raise AssertionError("no end")

    def close(self) -> None:
        for engine in (self.decode, self.prefill):
            engine.close()


def run_alone(engine: LLMEngine, requests: list[Request]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for request in requests:
        engine.add_request(request)
    while engine.has_work():
        for output in engine.step():
            found.setdefault(output.request_id, []).extend(output.token_ids)
    return found


@pytest.fixture(scope="module")
def wanted(smollm2_path: Path) -> dict[str, list[int]]:
    config = EngineConfig(
        model=str(smollm2_path), max_model_len=MAX_MODEL_LEN, kv_cache_memory_bytes=200 << 20
    )
    return run_alone(create_engine(config), make_requests())


@pytest.fixture
def pair(smollm2_path: Path, request: pytest.FixtureRequest) -> Iterator[Pair]:
    pair = Pair(str(smollm2_path), **request.param)
    yield pair
    pair.close()
    assert not [name for name in region_names() if name.startswith(f"test-{os.getpid()}-")]


@pytest.mark.parametrize("pair", [{}], indirect=True)
def test_prompts_land_where_they_are_decoded(pair: Pair, wanted: dict[str, list[int]]) -> None:
    assert pair.run(make_requests()) == wanted
    assert {done.outcome for done in pair.done} == {"done"}
    assert len(pair.done) >= 5
    assert all(done.num_bytes > 0 and done.placement is None for done in pair.done)
    for engine in (pair.decode, pair.prefill):
        assert engine.cache.num_used_blocks == 0


@pytest.mark.parametrize(
    "pair",
    [{"offload": True, "offload_ratio": 1.0}, {"offload": True, "offload_ratio": 100.0}],
    indirect=True,
)
def test_kv_may_stay_where_it_was_computed(pair: Pair, wanted: dict[str, list[int]]) -> None:
    assert pair.run(make_requests()) == wanted
    num_stayed = sum(done.placement is not None for done in pair.done)
    assert num_stayed >= 2
    for engine in (pair.decode, pair.prefill):
        assert engine.cache.num_used_blocks == 0
