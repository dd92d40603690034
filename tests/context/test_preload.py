"""Sequences that start while their blocks still arrive: exact, whatever comes of the loads."""

import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from artesian.context import PreloadRule
from artesian.context.preload import Progress
from artesian.engine.base import Request
from artesian.engine.batch import Batch
from artesian.engine.engine import LLMEngine
from artesian.kvcache import KvIdentity
from artesian.kvcache.hashing import BlockHasher
from tests.engine.toy import (
    CRASH_TOKEN,
    assert_no_leak,
    collect,
    generate,
    greedy,
    make_engine,
    run,
    toy_runner,
)

PROMPT = [1 + i % 60 for i in range(61)]
NUM_BLOCKS = 15
SLOW = 6_000.0
"""Bytes in a second: all blocks of the prompt take a twelfth of one."""
STUCK = 150.0
"""All blocks take longer than anybody waits."""


def progress(num_here: int, elapsed_s: float, expected_s: float = 0.0) -> Progress:
    return Progress(10, num_here, elapsed_s, expected_s)


@pytest.mark.parametrize(
    ("load_s", "prefill_s", "num_layers"),
    [(1.0, 1.0, 0), (1.0, 2.0, 0), (2.0, 1.0, 15), (4.0, 1.0, 23), (1.0, 0.0, 30)],
)
def test_the_buffer_is_what_computing_does_not_hide(
    load_s: float, prefill_s: float, num_layers: int
) -> None:
    assert PreloadRule().buffer_layers(30, load_s, prefill_s) == num_layers


def waits(num_here: int, num_layers: int, load_s: float, prefill_s: float) -> bool:
    """Whether a layer comes later than computing it would end, if so many are there at first."""
    arrives = [(layer + 1 - num_here) * load_s / num_layers for layer in range(num_layers)]
    ends = [(layer + 1) * prefill_s / num_layers for layer in range(num_layers)]
    return any(a > e + 1e-9 for a, e in zip(arrives, ends, strict=True))


def test_with_the_buffer_there_is_no_waiting() -> None:
    """Layer by layer; and with one layer less there would be."""
    chance = random.Random(0)
    for _ in range(300):
        num_layers = chance.randrange(2, 60)
        load_s, prefill_s = chance.uniform(0.1, 4.0), chance.uniform(0.1, 4.0)
        buffer = PreloadRule().buffer_layers(num_layers, load_s, prefill_s)

        assert not waits(buffer, num_layers, load_s, prefill_s)
        assert buffer == 0 or waits(buffer - 1, num_layers, load_s, prefill_s)


def test_the_rule_looks_at_how_the_load_goes() -> None:
    rule = PreloadRule()
    assert rule.may_start(progress(10, 5.0), 0.0, is_alone=False), "all is there"
    assert not rule.may_start(progress(0, 0.0, 0.1), 1.0, is_alone=True), "not its turn"
    for prefill_s in (0.0, 1.0):
        assert rule.may_start(progress(0, 0.1), prefill_s, is_alone=True), "nothing is known"
        assert not rule.may_start(progress(0, 0.1), prefill_s, is_alone=False)
    # A layer takes a fifth of a second, computing all of them one: five have to be there.
    starts = [rule.may_start(progress(k, 0.2 * k), 1.0, is_alone=True) for k in range(1, 10)]
    assert starts == [False] * 4 + [True] * 5
    starts = [rule.may_start(progress(k, 0.2 * k), 1.0, is_alone=False) for k in range(1, 10)]
    assert starts == [False] * 5 + [True] * 4
    assert rule.may_start(progress(1, 0.01), 1.0, is_alone=False), "it comes quickly"


def test_a_step_is_less_patient_the_more_is_known() -> None:
    rule = PreloadRule()
    assert rule.patience_s(progress(0, 0.1)) == math.inf
    assert rule.patience_s(progress(0, 0.1, 2.0)) == pytest.approx(6.0)
    assert rule.patience_s(progress(5, 1.0, 9.0)) == pytest.approx(3.0)
    assert rule.patience_s(progress(9, 0.09)) == 0.1


def saved(directory: Path, prompt: list[int] = PROMPT) -> None:
    """The prompt's blocks are in the directory."""
    engine = make_engine(context_dir=directory)
    generate(engine, prompt, greedy(1))
    engine.close()


def expected(prompt: list[int], num_tokens: int = 16) -> list[int]:
    return generate(make_engine(), prompt, greedy(num_tokens)).tokens


def settle(engine: LLMEngine) -> None:
    """Lets everything come to its end; then nothing is held by anybody."""
    context = engine._context
    assert context is not None
    while engine.has_work() or context.is_busy:
        engine.step()
        context.wait(0.05)
    engine.close()
    assert_no_leak(engine)


def request(name: str, prompt: list[int], num_tokens: int = 16, **more: Any) -> Request:
    sampling = greedy(num_tokens, n=more.pop("n", 1))
    return Request(request_id=name, prompt_token_ids=prompt, sampling=sampling, **more)


class Watch:
    """Notes the batches that an engine runs, and what gates said as they began."""

    def __init__(self, engine: LLMEngine) -> None:
        self.gated: list[tuple[int, bool]] = []
        runner = toy_runner(engine)
        forward = runner.forward

        def watched(batch: Batch) -> npt.NDArray[np.float32]:
            if batch.gates:
                is_here = all(gate.is_complete for _, gate in batch.gates)
                self.gated.append((len(batch.context_lens), is_here))
            return forward(batch)

        runner.forward = watched  # type: ignore[method-assign]


def flip(directory: Path, block: int) -> None:
    """A bit of the prompt's block number `block`, wherever threads have written it."""
    (path,) = directory.glob("*.kv")
    hashes: list[bytes] = []
    BlockHasher(KvIdentity("toy", "f32", 4)).extend(hashes, np.array(PROMPT, np.int32))
    header = path.read_bytes().index(hashes[block]) // 4096 * 4096
    with path.open("r+b") as file:
        file.seek(header + 4096 + 5)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 4]))


def test_a_sequence_starts_before_its_blocks_are_there(tmp_path: Path) -> None:
    saved(tmp_path)
    engine = make_engine(context_dir=tmp_path, context_bytes_per_s=SLOW)
    watch = Watch(engine)
    done = generate(engine, PROMPT, greedy())
    assert done.tokens == expected(PROMPT)
    assert done.last is not None and done.last.num_cached_tokens == 4 * NUM_BLOCKS
    assert watch.gated == [(1, False)]
    stats = engine.stats()
    assert (stats.context_early_starts, stats.context_rewinds) == (1, 0)
    assert stats.prefix_cache_hits_tokens == 4 * NUM_BLOCKS
    settle(engine)


@pytest.mark.parametrize("block", [0, 7, NUM_BLOCKS - 1])
def test_a_damaged_block_undoes_the_step_and_keeps_those_before_it(
    tmp_path: Path, block: int
) -> None:
    saved(tmp_path)
    flip(tmp_path, block)
    engine = make_engine(context_dir=tmp_path, context_bytes_per_s=SLOW)
    done = generate(engine, PROMPT, greedy())
    assert done.tokens == expected(PROMPT)
    assert done.last is not None and done.last.num_cached_tokens == 4 * block
    stats = engine.stats()
    assert stats.context_rewinds == 1 or block == 0  # it may fail before it could start
    assert stats.prefix_cache_queries_tokens == len(PROMPT), "counted once"
    assert stats.num_preemptions == 0
    settle(engine)


def test_a_load_that_hangs_is_waited_for_no_longer_than_ever(tmp_path: Path) -> None:
    saved(tmp_path)
    engine = make_engine(context_dir=tmp_path, context_bytes_per_s=STUCK)
    started = time.monotonic()
    done = generate(engine, PROMPT, greedy())
    assert done.tokens == expected(PROMPT)
    assert done.last is not None and done.last.num_cached_tokens == 0
    assert engine.stats().context_rewinds == 1
    assert time.monotonic() - started < 20
    settle(engine)


def test_those_that_decode_are_not_held_up(tmp_path: Path) -> None:
    saved(tmp_path)
    engine = make_engine(context_dir=tmp_path, context_bytes_per_s=SLOW)
    watch = Watch(engine)
    other = [70, 71, 72]
    engine.add_request(request("decoding", other, 100))
    outputs = {}  # type: ignore[var-annotated]
    collect(engine.step(), outputs)
    engine.add_request(request("late", PROMPT))
    while engine.has_work():
        collect(engine.step(), outputs)
        time.sleep(0.002)
    assert outputs["decoding", 0].tokens == expected(other, 100)
    assert outputs["late", 0].tokens == expected(PROMPT)
    assert all(is_here for num_sequences, is_here in watch.gated if num_sequences > 1)
    settle(engine)


def test_equal_prompts_start_once(tmp_path: Path) -> None:
    saved(tmp_path)
    engine = make_engine(context_dir=tmp_path, context_bytes_per_s=SLOW)
    watch = Watch(engine)
    engine.add_request(request("four", PROMPT, n=4))
    engine.add_request(request("other", [*PROMPT[:40], 3, 4, 5]))
    outputs = {}  # type: ignore[var-annotated]
    while engine.has_work():
        collect(engine.step(), outputs)
    assert all(outputs["four", index].tokens == expected(PROMPT) for index in range(4))
    assert outputs["other", 0].tokens == expected([*PROMPT[:40], 3, 4, 5])
    assert len(watch.gated) == 1
    settle(engine)


def test_what_nobody_wants_any_more_does_not_come(tmp_path: Path) -> None:
    saved(tmp_path)
    engine = make_engine(context_dir=tmp_path, context_bytes_per_s=STUCK)
    engine.add_request(request("a", PROMPT))
    engine.step()
    engine.abort("a")
    settle(engine)
    assert engine.stats().context_tiers[0].loaded_blocks <= 2
    engine = make_engine(context_dir=tmp_path)
    assert generate(engine, PROMPT, greedy()).tokens == expected(PROMPT)
    settle(engine)


def test_an_abort_leaves_others_their_blocks(tmp_path: Path) -> None:
    saved(tmp_path)
    engine = make_engine(context_dir=tmp_path, context_bytes_per_s=SLOW)
    for name in ("a", "b"):
        engine.add_request(request(name, PROMPT))
    engine._scheduler._look_ahead()
    engine.abort("a")
    done = run(engine)
    assert done["b"].tokens == expected(PROMPT)
    assert done["b"].last is not None and done["b"].last.num_cached_tokens == 4 * NUM_BLOCKS
    settle(engine)


def test_a_model_that_fails_gives_everything_back(tmp_path: Path) -> None:
    saved(tmp_path)
    engine = make_engine(context_dir=tmp_path, context_bytes_per_s=SLOW)
    done = generate(engine, [*PROMPT[:60], CRASH_TOKEN], greedy())
    assert done.finish_reason == "error"
    settle(engine)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_no_token_is_wrong(tmp_path: Path, seed: int) -> None:
    """Requests that come and go, over little memory, slow tiers and damaged blocks."""
    chance = random.Random(seed)
    prefixes = [[p, *(chance.randrange(60) for _ in range(47))] for p in range(4)]
    for prefix in prefixes:
        saved(tmp_path, prefix)
    (tmp_path / "unused").mkdir(exist_ok=True)
    for path in tmp_path.glob("*.kv"):
        if chance.random() < 0.5 and path.stat().st_size:
            with path.open("r+b") as file:
                file.seek(chance.randrange(path.stat().st_size // 8192) * 8192 + 4096)
                file.write(b"damage")
    engine = make_engine(
        num_blocks=48,
        context_dir=tmp_path,
        context_bytes_per_s=chance.choice([SLOW, 10 * SLOW, 1e9]),
        max_num_seqs=4,
    )
    prompts: dict[str, list[int]] = {}
    outputs = {}  # type: ignore[var-annotated]
    for number in range(40):
        prefix = chance.choice(prefixes)[: chance.randrange(8, 48)]
        prompt = [*prefix, *(chance.randrange(60) for _ in range(chance.randrange(1, 20)))]
        prompts[str(number)] = prompt
        engine.add_request(request(str(number), prompt, 6, priority=chance.randrange(2)))
        for _ in range(chance.randrange(4)):
            collect(engine.step(), outputs)
        if chance.random() < 0.1:
            aborted = str(chance.randrange(number + 1))
            engine.abort(aborted)
            prompts.pop(aborted, None)
        if chance.random() < 0.2:
            engine.cache.clear()
    while engine.has_work():
        collect(engine.step(), outputs)
    for name, prompt in prompts.items():
        assert outputs[name, 0].tokens == expected(prompt, 6), name
    settle(engine)
