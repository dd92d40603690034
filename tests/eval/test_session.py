"""Contexts that are read once and gone on from, against reading everything anew."""

from pathlib import Path

import numpy as np
import pytest

from artesian.loader import Checkpoint, open_checkpoint
from artesian.skip import SkipSet
from tests.loader.gguf_files import gguf, llama_metadata, llama_tensors, write

pytest.importorskip("artesian._core", reason="the kernels are not built")

from artesian.attention import SparseAttention
from artesian.engine.batch import Batch
from artesian.eval.late import measure_late
from artesian.eval.long_context import Plan, evaluate, open_session
from artesian.eval.score import Reading, TaskResult, TaskScore, run_task
from artesian.eval.session import Forcing, Room, Session, log_probabilities
from artesian.eval.speed import time_steps
from artesian.eval.tasks.base import Encode, Question, Sample
from artesian.eval.texts import passages, sentences, standard_text
from artesian.eval.ways import DENSE, Way
from artesian.ops.base import F32


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return open_checkpoint(write(tmp_path / "m.gguf", gguf(llama_metadata(), llama_tensors())))


def tokens(count: int, seed: int = 0) -> list[int]:
    return [int(t) for t in np.random.RandomState(seed).randint(2, 8, count)]


def last_logits(checkpoint: Checkpoint, text: list[int]) -> F32:
    """What may follow a text that is read whole, by a session of its own."""
    session = Session(checkpoint, Room(128, 1, 1), num_threads=1)
    count = len(text)
    return session.runner.forward(
        Batch(
            tokens=np.asarray(text, np.int32),
            positions=np.arange(count, dtype=np.int32),
            row_starts=np.asarray([0, count], np.int32),
            context_lens=np.asarray([count], np.int32),
            block_tables=np.arange(4, dtype=np.int32)[None],
            logit_rows=np.asarray([count - 1], np.int32),
        )
    )


@pytest.mark.parametrize("length", [31, 32, 33, 70])
def test_forks_go_on_from_the_context(checkpoint: Checkpoint, length: int) -> None:
    session = Session(checkpoint, Room(80, 3, 40), num_threads=1)
    context = tokens(length)
    session.read(context)
    tails = [tokens(5, 1), tokens(35, 2), tokens(1, 3)]
    last: dict[int, F32] = {}
    for _, rows, logits in session.force(session.forks([DENSE] * 3), tails):
        last |= {i: row.copy() for i, row in zip(rows, logits, strict=True)}
    for i, tail in enumerate(tails):
        assert np.array_equal(last[i], last_logits(checkpoint, context + tail)[0])


@pytest.mark.parametrize("length", [31, 32, 70])
def test_copies_go_on_alike(checkpoint: Checkpoint, length: int) -> None:
    session = Session(checkpoint, Room(80, 0, 40, num_copies=2), num_threads=1)
    context = tokens(length)
    session.read(context)
    copies = session.copies(DENSE, 2)
    assert not set(copies[0].blocks) & set(copies[1].blocks)
    session.read(tokens(80, 9))
    for token in (3, 4):
        logits = session.step(copies, [token, token + 1])
    assert np.array_equal(logits[0], last_logits(checkpoint, [*context, 3, 4])[0])
    assert np.array_equal(logits[1], last_logits(checkpoint, [*context, 4, 5])[0])
    with pytest.raises(ValueError, match="3 copies"):
        session.copies(DENSE, 3)


def test_a_context_that_begins_like_the_last_one(checkpoint: Checkpoint) -> None:
    session = Session(checkpoint, Room(100, 1, 4), num_threads=1)
    first = tokens(100)
    session.read(first)
    for context in (first[:50] + tokens(30, 1), first[:20], tokens(64, 2)):
        session.read(context)
        fork = session.forks([DENSE])
        logits = session.step(fork, [5])
        assert np.array_equal(logits, last_logits(checkpoint, [*context, 5]))


def test_only_wanted_logits_are_given(checkpoint: Checkpoint) -> None:
    session = Session(checkpoint, Room(40, 2, 8), num_threads=1)
    session.read(tokens(40))
    tails = [[2, 3, 4], [5, 6]]
    every, some = (
        {
            (number, i): logits[row]
            for number, rows, logits in session.force(
                session.forks([DENSE] * 2), tails, Forcing(first)
            )
            for row, i in enumerate(rows)
        }
        for first in (None, [2, 1])
    )
    assert set(every) == {(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)}
    assert set(some) == {(1, 1), (2, 0)}
    assert all(np.array_equal(some[key], every[key]) for key in some)


def test_no_room(checkpoint: Checkpoint) -> None:
    session = Session(checkpoint, Room(40, 1, 2), num_threads=1)
    with pytest.raises(ValueError, match="41 tokens in room for 40"):
        session.read(tokens(41))
    session.read(tokens(40))
    with pytest.raises(ValueError, match="2 forks"):
        session.forks([DENSE, DENSE])
    with pytest.raises(ValueError, match="not read as"):
        session.forks([Way("skipping", skip=SkipSet((1,), (1.0,)))])
    with pytest.raises(ValueError, match="room for 2 tokens"):
        list(session.force(session.forks([DENSE]), [tokens(60)]))


def test_dense_beside_itself(checkpoint: Checkpoint) -> None:
    session = Session(checkpoint, Room(60, 2, 12), num_threads=1)
    read = [tokens(70), tokens(70, 1)]
    exact, again = measure_late(session, [DENSE, Way("again")], read, 10)
    assert exact.difference is None and exact.perplexity.num_tokens == 20
    assert np.array_equal(again.perplexity.losses_nats, exact.perplexity.losses_nats)
    assert again.agrees.all() and again.divergence_nats.max() < 1e-9
    expected = -log_probabilities(last_logits(checkpoint, read[0][:60]))[0, read[0][60]]
    assert exact.perplexity.losses_nats[0] == pytest.approx(float(expected), abs=1e-6)
    with pytest.raises(ValueError, match="too short"):
        measure_late(session, [DENSE], [tokens(11)], 10)
    with pytest.raises(ValueError, match="first way"):
        measure_late(session, [], read, 10)


class Copying:
    """Asks for tokens that greedy decoding gives, and for others."""

    name = "copying"
    is_exact = True

    def __init__(self, answers: list[list[int]]) -> None:
        self.answers = answers

    def sample(self, seed: int, num_tokens: int, encode: Encode, prose: object) -> Sample:
        context = tuple(tokens(num_tokens, seed))
        asked = [Question((3, 4, *answer), ((2, 2 + len(answer)),)) for answer in self.answers]
        return Sample(context, tuple(asked))


def test_right_is_what_greedy_decoding_gives(checkpoint: Checkpoint) -> None:
    session = Session(checkpoint, Room(60, 3, 12), num_threads=1)
    context, text = tokens(50), [3, 4]
    answer: list[int] = []
    for _ in range(3):
        answer.append(int(last_logits(checkpoint, context + text + answer)[0].argmax()))
    other = [*answer[:2], (answer[2] + 1) % 8]
    reading = Reading(50, lambda text: [], (), ())
    task = Copying([answer, other, answer])
    result = run_task(session, [DENSE, Way("again")], task, reading, 1)
    for score in result.scores.values():
        assert score.is_right == [True, False, True]
        assert score.losses_nats[1] > score.losses_nats[0] == score.losses_nats[2]


def test_the_gate() -> None:
    def scores(*parts: int) -> dict[str, TaskScore]:
        flags = ([True] * part + [False] * (10 - part) for part in parts)
        return {str(i): TaskScore(list(f), [1.0] * 10) for i, f in enumerate(flags)}

    assert TaskResult("t", True, scores(8, 5)).passes_gate
    assert not TaskResult("t", True, scores(7, 9)).passes_gate
    assert not TaskResult("t", False, scores(10, 10)).passes_gate
    result = TaskResult("t", True, scores(10, 8, 5))
    assert result.is_inside("1") and not result.is_inside("2")


def test_what_is_read_and_what_it_weighs(checkpoint: Checkpoint) -> None:
    session = Session(checkpoint, Room(512, 4, 12), num_threads=1)
    window = SparseAttention(selector="window", budget_tokens=128, min_context_tokens=0)
    all_ = SparseAttention(selector="top-k", budget_tokens=1024, min_context_tokens=0)
    ways = [DENSE, Way("window", window), Way("all", all_)]
    dense, some, everything = measure_late(session, ways, [tokens(521)], 8)
    assert dense.kept.ratio == dense.kept.mean_mass == everything.kept.ratio == 1
    assert everything.kept.mean_mass == pytest.approx(1, abs=1e-5)
    assert everything.divergence_nats.max() < 1e-5
    # Two layers of two KV heads, 17 groups of 32 tokens with keys and values of 16 halves each.
    assert dense.bytes_read == 2 * 2 * 17 * 32 * 2 * 16 * 2
    assert everything.bytes_read > dense.bytes_read
    assert 0.2 < some.kept.ratio < 0.4
    assert some.bytes_read == pytest.approx(some.kept.ratio * dense.bytes_read)
    assert 0.1 < some.kept.low_mass <= some.kept.mean_mass < 0.6
    assert some.divergence_nats.max() > everything.divergence_nats.max()


def test_steps_are_timed_in_turns(checkpoint: Checkpoint) -> None:
    session = Session(checkpoint, Room(40, 0, 8, num_copies=2), num_threads=1)
    session.read(tokens(40))
    ways = [DENSE, Way("again")]
    times = time_steps(session, ways, [2, 3, 4], num_sequences=2, num_rounds=3)
    for way in ways:
        assert len(times[way.name].steps_s) == 6
        assert 0 < times[way.name].attention_s[0] < times[way.name].steps_s[0]
    with pytest.raises(ValueError, match="two tokens"):
        time_steps(session, ways, [2])


def test_texts() -> None:
    assert sentences('A sentence that is long enough.  "Another\none, long enough?" No.') == [
        " A sentence that is long enough.",
        ' "Another one, long enough?"',
    ]
    text = standard_text()
    assert len(text) > 200_000 and len(sentences(text)) > 1000
    assert passages(range(10), [9], 5, 3) == [[9, 0, 1, 2, 3], [9, 3, 4, 5, 6], [9, 6, 7, 8, 9]]
    with pytest.raises(ValueError, match="too few"):
        passages(range(3), [], 5, 1)


def test_what_a_plan_needs(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="made for at most 128"):
        open_session(checkpoint, Plan(context_tokens=100), num_threads=1)
    session = Session(checkpoint, Room(60, 2, 12, num_copies=1), num_threads=1)
    plan = Plan(context_tokens=40, num_late=8, num_passages=1, tasks=(), num_rounds=1)
    result = evaluate(session, checkpoint, [Way("again")], "ab ab cab " * 30, plan)
    assert [late.way for late in result.late] == ["dense", "again"]
    facts = result.as_dict()
    assert facts["tasks"] == []
    assert result.speed_up("dense") == 1
