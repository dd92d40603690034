"""Two processes: one decodes, and the executor of the other attends for some of its sequences."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from artesian.engine.offload import OffloadError, RemoteName
from artesian.kvcache.region import remove_region
from tests.engine.offload.side import Row, Side

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
NUM_TOKENS = 20
LENGTHS = [3, 31, 32, 33, 70, 120]
GENERATION = 7


class Peer:
    """The process with the executor."""

    def __init__(self, model: str, region: str) -> None:
        command = [sys.executable, "-m", "tests.engine.offload.executor_process"]
        self.region = region
        self.process = subprocess.Popen(
            [*command, model, region, str(GENERATION)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.answer() == ["ready"]

    def answer(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def ask(self, line: str) -> list[str]:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def admit(self, tokens: list[int]) -> RemoteName:
        slot, generation = self.ask(json.dumps(tokens))
        return RemoteName(int(slot), int(generation))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
        self.process.communicate(timeout=60)
        remove_region(self.region)


@pytest.fixture(scope="module")
def side(smollm2_path: Path) -> Iterator[Side]:
    """The side that decodes, here."""
    side = Side(str(smollm2_path), f"test-{uuid.uuid4().hex[:12]}")
    yield side
    side.arena.close()


@pytest.fixture
def start(smollm2_path: Path) -> Iterator[Callable[[], Peer]]:
    """Starts peers."""
    peers: list[Peer] = []

    def start() -> Peer:
        peers.append(Peer(str(smollm2_path), f"test-{uuid.uuid4().hex[:12]}"))
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()


def prompts() -> list[list[int]]:
    rng = random.Random(3)
    return [[rng.randrange(1000, 40_000) for _ in range(length)] for length in LENGTHS]


@pytest.fixture(scope="module")
def alone(side: Side) -> list[list[int]]:
    """What each prompt gives by itself, greedily."""
    outputs = []
    for prompt in prompts():
        blocks = side.blocks()
        side.prefill(prompt[:-1], blocks)
        tokens = list(prompt)
        for _ in range(NUM_TOKENS):
            logits, _ = side.decode([Row(tokens[-1], len(tokens) - 1, blocks)])
            tokens.append(int(np.argmax(logits[0])))
        outputs.append(tokens[len(prompt) :])
        for block in blocks:
            side.arena.free(block)
    return outputs


class Decode:
    """Greedy decoding of all prompts, those from `num_local` on with the peer."""

    def __init__(self, side: Side, peer: Peer, num_local: int) -> None:
        self.side = side
        self.remote = side.exchange.connect(peer.region, GENERATION, timeout_s=30)
        self.tokens = [list(prompt) for prompt in prompts()]
        self.rows = [Row(prompt[-1], len(prompt) - 1) for prompt in self.tokens]
        self.blocks: list[int] = []
        for number, row in enumerate(self.rows):
            if number < num_local:
                self.bring(number)
            else:
                row.name = peer.admit(self.tokens[number][:-1])

    def bring(self, number: int) -> None:
        """Computes a sequence's KV here."""
        row = self.rows[number]
        row.name = None
        row.blocks = self.side.blocks()
        self.blocks += row.blocks
        self.side.prefill(self.tokens[number][:-1], row.blocks)

    def step(self, timeout_s: float = 30.0) -> list[int]:
        """One step; the sequences that it did not count for."""
        order = sorted(range(len(self.rows)), key=lambda number: self.rows[number].name is not None)
        rows = [self.rows[number] for number in order]
        logits, failed = self.side.decode(rows, self.remote, timeout_s)
        for place, number in enumerate(order):
            if place not in failed:
                self.tokens[number].append(int(np.argmax(logits[place])))
                self.rows[number].token = self.tokens[number][-1]
                self.rows[number].position += 1
        return [order[place] for place in failed]

    def outputs(self) -> list[list[int]]:
        for block in self.blocks:
            self.side.arena.free(block)
        return [
            tokens[len(prompt) :] for tokens, prompt in zip(self.tokens, prompts(), strict=True)
        ]


@pytest.mark.parametrize("num_local", [0, 3, 5, 6])
def test_tokens_are_those_of_local_attention(
    side: Side, alone: list[list[int]], start: Callable[[], Peer], num_local: int
) -> None:
    decode = Decode(side, start(), num_local)
    for _ in range(NUM_TOKENS):
        assert decode.step() == []
    assert decode.outputs() == alone
    stats = decode.remote.stats()
    num_layers = side.checkpoint.config.num_layers
    num_steps = NUM_TOKENS if num_local < len(LENGTHS) else 0
    assert (stats.num_steps, stats.num_messages) == (num_steps, num_steps * (1 + num_layers))
    assert stats.num_rows == num_steps * num_layers * (len(LENGTHS) - num_local)


def test_beside_a_busy_engine(
    side: Side, alone: list[list[int]], start: Callable[[], Peer]
) -> None:
    peer = start()
    decode = Decode(side, peer, 2)
    assert peer.ask("busy") == ["ready"]
    for _ in range(NUM_TOKENS):
        assert decode.step() == []
    assert decode.outputs() == alone


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_peer_that_fails_in_mid_step_costs_no_token(
    side: Side, alone: list[list[int]], start: Callable[[], Peer], how: signal.Signals
) -> None:
    peer = start()
    decode = Decode(side, peer, 2)
    strike = threading.Timer(0.15, lambda: os.kill(peer.process.pid, how))
    strike.start()
    failed: list[int] = []
    for _ in range(10 * NUM_TOKENS):
        if failed or all(len(tokens) >= 200 for tokens in decode.tokens):
            break
        failed = decode.step(timeout_s=0.5)
        time.sleep(0.002)
    strike.join()
    assert failed == [2, 3, 4, 5]
    assert decode.remote.is_broken
    assert decode.remote.is_alive is (how is signal.SIGSTOP)
    # What went well before it did is right, and the rest is computed here.
    for number in failed:
        decode.bring(number)
    for _ in range(NUM_TOKENS):
        assert decode.step() == []
    for output, right in zip(decode.outputs(), alone, strict=True):
        assert output[:NUM_TOKENS] == right


def test_a_peer_that_goes_on_is_used_again(
    side: Side, alone: list[list[int]], start: Callable[[], Peer]
) -> None:
    peer = start()
    decode = Decode(side, peer, 2)
    assert decode.step() == []
    os.kill(peer.process.pid, signal.SIGSTOP)
    assert decode.step(timeout_s=0.2) == [2, 3, 4, 5]
    assert decode.step() == [2, 3, 4, 5], "a broken connection fails at once"
    with pytest.raises(OffloadError, match="did not answer within 100 ms"):
        decode.remote.reconnect(0.1)
    os.kill(peer.process.pid, signal.SIGCONT)
    decode.remote.reconnect(30)
    while len(decode.tokens[2]) < LENGTHS[2] + NUM_TOKENS:
        assert decode.step() == []
    for output, right in zip(decode.outputs(), alone, strict=True):
        assert output[:NUM_TOKENS] == right


def test_another_generation_and_no_executor_are_refused(
    side: Side, start: Callable[[], Peer]
) -> None:
    peer = start()
    with pytest.raises(OffloadError, match="generation is 7, not 8"):
        side.exchange.connect(peer.region, GENERATION + 1)
    with pytest.raises(OffloadError, match="generation is 0"):
        side.exchange.connect(side.arena.name)
    with pytest.raises(OffloadError, match="cannot use the executor"):
        side.exchange.connect("test-nobody")
