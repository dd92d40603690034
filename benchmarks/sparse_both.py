"""Progressive attention and left-out sublayers: each alone, and both."""

from dataclasses import replace
from pathlib import Path

from artesian.eval.late import measure_late
from artesian.eval.session import Session
from artesian.eval.speed import time_steps
from artesian.eval.ways import DENSE, Way, parse_way
from artesian.loader import Checkpoint
from artesian.skip import SkipSet, read_calibration
from artesian.skip.policies import MostSimilar
from report import Row
from sparse_cells import TIMED_TOKENS, Effort

COLUMNS = ["dense", "progressive", "skipping", "both"]


def choose(path: Path, checkpoint: Checkpoint, num_skipped: int) -> SkipSet:
    """So many sublayers by a file of `artesian calibrate`. Raises `CalibrationError`."""
    calibration = read_calibration(path, checkpoint.fingerprint())
    return MostSimilar().choose(calibration, num_skipped)


def both_rows(
    model: str, session: Session, passages: list[list[int]], skip: SkipSet, effort: Effort
) -> list[Row]:
    """Quality and time of the four, behind one length of context.

    What skips has read the context without those sublayers, too, as it would in serving.
    """
    main = replace(parse_way(effort.main), name="progressive")
    ways = [DENSE, main, Way("skipping", skip=skip), Way("both", main.attention, skip)]
    late = {result.way: result for result in measure_late(session, ways, passages, effort.num_late)}
    length = session.num_context_tokens
    timed = passages[-1][length:][:TIMED_TOKENS]
    times = time_steps(session, ways, timed, num_rounds=effort.num_rounds)
    ratios = {n: 1.0 if r.difference is None else r.difference.ratio for n, r in late.items()}
    subject = f"{model}, {length:,} tokens, {len(skip.sublayers)} sublayers left out"
    rates = {name: 1 / one.step_s for name, one in times.items()}
    return [
        Row(
            subject=subject,
            metric="decode, batch 1, of both",
            value=rates["both"],
            unit="tokens/s",
            baseline="dense",
            baseline_value=rates["dense"],
            values=rates,
        ),
        Row(
            subject=subject,
            metric="perplexity of late positions / dense's, of both",
            value=ratios["both"],
            unit="",
            baseline="dense",
            baseline_value=1.0,
            better="less",
            values=ratios,
        ),
        Row(
            subject=subject,
            metric="groups kept, of both",
            value=1e2 * late["both"].kept.ratio,
            unit="%",
            values={name: 1e2 * result.kept.ratio for name, result in late.items()},
        ),
    ]
