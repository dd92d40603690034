"""Measures a model's sublayers on prompts."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from artesian.calibrate.costs import measure_costs
from artesian.calibrate.prompts import Prompts, prompt_hash
from artesian.engine.batch import Batch
from artesian.eval.session import BLOCK_TOKENS, Room, Session, log_probabilities
from artesian.loader import Checkpoint
from artesian.ops.base import F32
from artesian.ops.native import Isa
from artesian.skip import Calibration, Loss, Similarity, SkipSet
from artesian.skip.policies import FIRST_LAYER, MostSimilar

_CHUNK_TOKENS = 128
_SAMPLED_LOGITS = 16
"""Rows of a chunk whose logits are computed when only sublayers are measured: the last layer's are
measured on these alone."""
_COST_CONTEXT_TOKENS = 4096
_STEPS = (1, 2, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40)
Progress = Callable[[str, int, int], None]
"""Takes what is being done, and how many of how many are done."""


def calibrate(
    checkpoint: Checkpoint,
    prompts: Prompts,
    *,
    num_threads: int,
    isa: Isa | None = None,
    most_loss_nats: float = 1.0,
    progress: Progress = lambda *_: None,
) -> Calibration:
    """The calibration of a model on this machine.

    Args:
        prompts: of at least two tokens each.
        most_loss_nats: leaving out more is not tried once the loss is above that.

    Raises:
        ValueError: the model's sublayers cannot be told apart.
    """
    config = checkpoint.config
    context = min(_COST_CONTEXT_TOKENS, config.max_model_len - _CHUNK_TOKENS)
    longest = max(len(tokens) for tokens in (*prompts.measured, *prompts.held_out))
    room = Room(max(longest, context + _CHUNK_TOKENS), 1, 1)
    session = Session(checkpoint, room, num_threads=num_threads, isa=isa)
    if session.runner.num_sublayers != 2 * config.num_layers:
        raise ValueError(
            f"{checkpoint.name} has {session.runner.num_sublayers} sublayers in "
            f"{config.num_layers} layers: they cannot be told apart"
        )
    similarity = Similarity(2 * config.num_layers)
    for number, tokens in enumerate(prompts.measured):
        progress("measure similarity", number, len(prompts.measured))
        measure_prompt(session, tokens, similarity)
    windows = config.layer_windows or [None] * config.num_layers
    found = Calibration(
        model=checkpoint.name,
        fingerprint=checkpoint.fingerprint(),
        similarities=tuple(map(float, similarity.similarities)),
        scales=tuple(map(float, similarity.scales)),
        spreads=tuple(map(float, similarity.spreads)),
        windows=tuple(window or 0 for window in windows),
        prompt_hashes=tuple(map(prompt_hash, prompts.measured)),
        num_tokens=sum(map(len, prompts.measured)),
    )
    losses = tuple(_losses(session, prompts.held_out, found, most_loss_nats, progress))
    decode, prompt = measure_costs(session, config, context, progress)
    fields = {name: getattr(found, name) for name in found.__struct_fields__}
    return Calibration(**{**fields, "losses": losses, "decode": decode, "prompt": prompt})


def measure_prompt(
    session: Session, tokens: Sequence[int], similarity: Similarity, skip: SkipSet | None = None
) -> None:
    """Adds a prompt's sublayers to `similarity`."""
    for start, piece in _pieces(tokens):
        step = max(1, len(piece) // _SAMPLED_LOGITS)
        wanted = np.arange(0, len(piece), step, dtype=np.int32)
        probe = np.empty((2, session.runner.num_sublayers, len(piece)), np.float32)
        session.runner.forward(_batch(start, piece, wanted, skip, probe))
        similarity.add(probe)
    similarity.end_prompt()


def loss_nats(session: Session, tokens: Sequence[int], skip: SkipSet | None = None) -> float:
    """Mean of minus the log probability of all tokens of a prompt but the first."""
    total = 0.0
    for start, piece in _pieces(tokens):
        targets = tokens[start + 1 : start + 1 + len(piece)]
        if not targets:
            break
        wanted = np.arange(len(targets), dtype=np.int32)
        logits = session.runner.forward(_batch(start, piece, wanted, skip, None))
        total -= float(log_probabilities(logits)[wanted, targets].sum(dtype=np.float64))
    return total / (len(tokens) - 1)


def _losses(
    session: Session,
    prompts: Sequence[Sequence[int]],
    calibration: Calibration,
    most_nats: float,
    progress: Progress,
) -> Iterator[Loss]:
    policy = MostSimilar()
    weights = [len(tokens) - 1 for tokens in prompts]

    def mean_loss(skip: SkipSet | None) -> float:
        losses = [loss_nats(session, tokens, skip) for tokens in prompts]
        return float(np.average(losses, weights=weights))

    counts = [n for n in _STEPS if n <= len(calibration.similarities) - len(FIRST_LAYER)]
    full = mean_loss(None)
    for number, count in enumerate(counts):
        progress("measure quality", number, len(counts))
        loss = mean_loss(policy.choose(calibration, count)) - full
        yield Loss(count, loss)
        if loss > most_nats:
            return


def _pieces(tokens: Sequence[int]) -> Iterator[tuple[int, Sequence[int]]]:
    for start in range(0, len(tokens), _CHUNK_TOKENS):
        yield start, tokens[start : start + _CHUNK_TOKENS]


def _batch(
    start: int,
    tokens: Sequence[int],
    wanted: np.ndarray[tuple[int], np.dtype[np.int32]],
    skip: SkipSet | None,
    probe: F32 | None,
) -> Batch:
    end = start + len(tokens)
    return Batch(
        tokens=np.asarray(tokens, np.int32),
        positions=np.arange(start, end, dtype=np.int32),
        row_starts=np.asarray([0, len(tokens)], np.int32),
        context_lens=np.asarray([end], np.int32),
        block_tables=np.arange(-(-end // BLOCK_TOKENS), dtype=np.int32)[None],
        logit_rows=wanted,
        skips=[(0, skip)] if skip is not None and skip.sublayers else (),
        probe=probe,
    )
