"""KV that is written to a peer while it is computed: what decodes there, and who may write."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from artesian import _core
from artesian.engine.batch import Batch
from artesian.engine.handover import LandingError, LandingTicket
from artesian.kvcache import Arena, RegionArena
from artesian.kvcache.landing import PeerArenas, RegionPad, RegionWriter
from artesian.loader import open_checkpoint
from artesian.loader.native import NativeRunner
from artesian.loader.reference import ReferenceRunner
from artesian.ops.base import F32, KvDtype, KvLayout
from artesian.ops.native import Isa, kv_block_bytes
from tests.golden import tiny_models

BLOCK = 32
NUM_BLOCKS = 12
LENGTH = 5 * BLOCK + 9
DTYPES: list[KvDtype] = ["f32", "f16", "bf16", "int8"]
FINGERPRINT = "a model"

I32 = npt.NDArray[np.int32]


class Side:
    """A worker with an arena, whose blocks of the prompt are `table`."""

    def __init__(self, directory: Path, layout: KvLayout, memory: npt.NDArray[np.uint8]) -> None:
        checkpoint = open_checkpoint(directory)
        self.runner = NativeRunner(checkpoint, layout, memory, max_rows=256, num_threads=2)

    def run(
        self, tokens: I32, first: int, table: list[int], writer: RegionWriter | None = None
    ) -> F32:
        """Logits of the last row."""
        rows = np.arange(len(tokens), dtype=np.int32)
        batch = Batch(
            tokens=tokens,
            positions=first + rows,
            row_starts=np.array([0, len(tokens)], np.int32),
            context_lens=np.array([first + len(tokens)], np.int32),
            block_tables=np.array([table], np.int32),
            logit_rows=rows[-1:],
            pushes=[] if writer is None else [(0, writer)],
        )
        return self.runner.forward(batch)


class Pair:
    """One worker that computes a prompt, and one that wants it."""

    def __init__(self, directory: Path, dtype: KvDtype = "bf16") -> None:
        config = open_checkpoint(directory).config
        shape = (config.num_layers, config.num_kv_heads, config.head_dim)
        self.layout = KvLayout(*shape, BLOCK, dtype)
        block_bytes = kv_block_bytes(self.layout)
        name = f"test-landing-{os.getpid()}"
        self.region = RegionArena(
            name,
            NUM_BLOCKS,
            block_bytes,
            config.num_layers,
            fingerprint=FINGERPRINT,
            num_landings=2,
        )
        self.pad = RegionPad(self.region)
        arena = Arena(NUM_BLOCKS, block_bytes, config.num_layers)
        self.peers = PeerArenas(arena.memory, self.layout, FINGERPRINT, 2)
        self.near = Side(directory, self.layout, arena.memory)
        self.far = Side(directory, self.layout, self.region.memory)

    def ticket(self, blocks: list[int], first_block: int = 0) -> LandingTicket:
        opened = self.pad.open()
        assert opened is not None
        slot, generation = opened
        return LandingTicket(
            region=self.pad.name,
            slot=slot,
            generation=generation,
            first_block=first_block,
            blocks=blocks,
        )


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write(next(iter(tiny_models.CONFIGS)), tmp_path_factory.mktemp("models"))


@pytest.fixture
def pair(directory: Path) -> Iterator[Pair]:
    pair = Pair(directory)
    yield pair
    pair.region.close()


TOKENS = np.random.default_rng(3).integers(3, 500, LENGTH + 3, dtype=np.int32)
NEAR = [5, 0, 3, 1, 8, 2]
FAR = [9, 4, 11, 0, 7, 3]


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_landed_decodes_as_where_it_was_computed(
    directory: Path, dtype: KvDtype, chunk: int
) -> None:
    pair = Pair(directory, dtype)
    ticket = pair.ticket(FAR)
    writer = pair.peers.open_writer(ticket)
    # Where nothing was written, what lies there is not used.
    pair.region.memory[:] = 0xA5
    for first in range(0, LENGTH, chunk):
        assert pair.pad.state(ticket.slot) == "writing"
        pair.near.run(TOKENS[first : min(first + chunk, LENGTH)], first, NEAR, writer)
    writer.complete()
    assert pair.pad.is_complete(ticket.slot)
    sections, num_bytes, layer = pair.pad.progress(ticket.slot)
    assert sections == -(-LENGTH // chunk) * pair.layout.num_layers
    assert num_bytes == writer.num_bytes >= len(FAR) * kv_block_bytes(pair.layout)
    assert layer == pair.layout.num_layers - 1
    for number in range(LENGTH, LENGTH + 3):
        token = TOKENS[number : number + 1]
        here, there = pair.near.run(token, number, NEAR), pair.far.run(token, number, FAR)
        assert here.tobytes() == there.tobytes()
    pair.region.close()


@pytest.mark.parametrize("isa", _core.available_isas())
def test_every_instruction_set_stores_alike_for_both(directory: Path, isa: Isa) -> None:
    config = open_checkpoint(directory).config
    layout = KvLayout(config.num_layers, config.num_kv_heads, config.head_dim, BLOCK, "f16")
    pair = Pair(directory, "f16")
    for side in (pair.near, pair.far):
        memory = (
            pair.region.memory
            if side is pair.far
            else Arena(NUM_BLOCKS, kv_block_bytes(layout), config.num_layers).memory
        )
        checkpoint = open_checkpoint(directory)
        side.runner = NativeRunner(checkpoint, layout, memory, max_rows=256, num_threads=2, isa=isa)
    ticket = pair.ticket(FAR)
    writer = pair.peers.open_writer(ticket)
    pair.near.run(TOKENS[:LENGTH], 0, NEAR, writer)
    writer.complete()
    token = TOKENS[LENGTH : LENGTH + 1]
    here, there = pair.near.run(token, LENGTH, NEAR), pair.far.run(token, LENGTH, FAR)
    assert here.tobytes() == there.tobytes()
    pair.region.close()


def test_cached_blocks_are_copied_and_what_the_peer_has_is_left_out(pair: Pair) -> None:
    tokens = TOKENS[:LENGTH]
    pair.far.run(tokens[: 2 * BLOCK], 0, FAR)
    pair.near.run(tokens[: 4 * BLOCK], 0, NEAR)
    ticket = pair.ticket(FAR[2:], first_block=2)
    writer = pair.peers.open_writer(ticket)
    before = pair.region.memory.copy()
    writer.push_blocks(NEAR[:2], 0)
    assert (pair.region.memory == before).all() and writer.num_bytes == 0
    writer.push_blocks(NEAR[1:4], 1)
    assert writer.num_bytes == 2 * kv_block_bytes(pair.layout)
    pair.near.run(tokens[4 * BLOCK :], 4 * BLOCK, NEAR, writer)
    writer.complete()
    assert pair.pad.is_complete(ticket.slot)
    token = TOKENS[LENGTH : LENGTH + 1]
    here, there = pair.near.run(token, LENGTH, NEAR), pair.far.run(token, LENGTH, FAR)
    assert here.tobytes() == there.tobytes()


def test_what_is_taken_back_is_not_written_to_and_the_run_goes_on(pair: Pair) -> None:
    tokens = TOKENS[:LENGTH]
    ticket = pair.ticket(FAR)
    writer = pair.peers.open_writer(ticket)
    alone = pair.near.run(tokens, 0, NEAR)
    pair.near.run(tokens[:50], 0, NEAR, writer)
    assert writer.is_open and not pair.pad.is_quiet(ticket.slot)
    assert pair.pad.revoke(ticket.slot), "nobody is writing just now"
    before = pair.region.memory.copy()
    num_bytes = writer.num_bytes
    logits = pair.near.run(tokens[50:], 50, NEAR, writer)
    writer.push_blocks(NEAR[:1], 0)
    writer.complete()
    assert (pair.region.memory == before).all() and writer.num_bytes == num_bytes
    assert not writer.is_open and pair.pad.state(ticket.slot) == "revoked"
    np.testing.assert_array_equal(logits.argmax(), alone.argmax())
    pair.pad.release(ticket.slot)
    assert pair.pad.num_lent == 0


def test_what_is_not_whole_is_never_complete(pair: Pair) -> None:
    ticket = pair.ticket(FAR)
    writer = pair.peers.open_writer(ticket)
    pair.near.run(TOKENS[:BLOCK], 0, NEAR)
    pair.near.run(TOKENS[BLOCK:LENGTH], BLOCK, NEAR, writer)
    writer.complete()
    assert pair.pad.state(ticket.slot) == "failed" and not writer.is_open
    pair.pad.release(ticket.slot)


def test_a_writer_that_nobody_has_any_more_has_failed(pair: Pair) -> None:
    ticket = pair.ticket(FAR)
    writer = pair.peers.open_writer(ticket)
    pair.near.run(TOKENS[:BLOCK], 0, NEAR, writer)
    with pytest.raises(ValueError, match="revoke it"):
        pair.pad.release(ticket.slot)
    del writer
    assert pair.pad.state(ticket.slot) == "failed" and pair.pad.is_quiet(ticket.slot)
    assert pair.pad.revoke(ticket.slot)


def test_landings_have_one_writer_and_end(pair: Pair) -> None:
    ticket = pair.ticket(FAR)
    writer = pair.peers.open_writer(ticket)
    with pytest.raises(LandingError, match="has a writer already"):
        pair.peers.open_writer(ticket)
    writer.close()
    with pytest.raises(LandingError, match="is over"):
        pair.peers.open_writer(ticket)
    pair.pad.release(ticket.slot)
    revoked = pair.ticket(FAR)
    assert pair.pad.revoke(revoked.slot) and pair.pad.revoke(revoked.slot)
    with pytest.raises(LandingError, match="was taken back"):
        pair.peers.open_writer(revoked)


def test_there_are_as_many_landings_as_slots(pair: Pair) -> None:
    first, second = pair.ticket(FAR[:1]), pair.ticket(FAR[1:2])
    assert pair.pad.open() is None and pair.pad.num_lent == 2
    pair.pad.revoke(first.slot)
    pair.pad.release(first.slot)
    third = pair.ticket(FAR[:1])
    assert third.slot == first.slot and third.generation != first.generation
    for slot in (first.slot + 2, -1):
        with pytest.raises((ValueError, OverflowError)):
            pair.pad.revoke(slot)
    assert pair.pad.state(second.slot) == "open"


@pytest.mark.parametrize(
    "bad",
    [
        {"blocks": [NUM_BLOCKS]},
        {"blocks": [1, 1]},
        {"blocks": [-1]},
        {"slot": 2},
        {"slot": 1 << 40},
        {"generation": 2},
        {"generation": 1 << 60},
        {"first_block": -1},
    ],
)
def test_tickets_that_cannot_be_are_refused(pair: Pair, bad: dict[str, object]) -> None:
    good = pair.ticket(FAR)
    fields = {field: getattr(good, field) for field in good.__struct_fields__}
    with pytest.raises(LandingError):
        pair.peers.open_writer(LandingTicket(**{**fields, **bad}))
    assert pair.pad.state(good.slot) == "open"


def test_peers_of_another_kind_and_regions_that_are_gone_are_refused(pair: Pair) -> None:
    ticket = pair.ticket(FAR)
    memory = np.zeros(kv_block_bytes(pair.layout), np.uint8)
    with pytest.raises(LandingError, match="same model"):
        PeerArenas(memory, pair.layout, "another model").open_writer(ticket)
    writer = pair.peers.open_writer(ticket)
    pair.region.close()
    assert not writer.is_open
    pair.near.run(TOKENS[:BLOCK], 0, NEAR, writer)
    writer.complete()
    assert writer.num_bytes == 0
    with pytest.raises(OSError, match="lost"):
        pair.peers.open_writer(ticket)
    with pytest.raises(OSError, match="lost"):
        pair.pad.is_quiet(ticket.slot)


def test_the_numpy_model_refuses_to_push(pair: Pair, directory: Path) -> None:
    writer = pair.peers.open_writer(pair.ticket(FAR))
    rows = np.arange(4, dtype=np.int32)
    batch = Batch(
        tokens=TOKENS[:4],
        positions=rows,
        row_starts=np.array([0, 4], np.int32),
        context_lens=np.array([4], np.int32),
        block_tables=np.array([[0]], np.int32),
        logit_rows=rows[-1:],
        pushes=[(0, writer)],
    )
    with pytest.raises(ValueError, match="numpy"):
        ReferenceRunner(open_checkpoint(directory)).forward(batch)
