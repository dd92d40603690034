"""What leaving out sublayers costs in quality and saves in time: AdaSkip's table on two models.

    make bench-skip
    make bench-skip ARGS='--models smollm2 --skipped 8 --rounds 5'

Each model is calibrated first. Quality is the perplexity of the last tokens of passages that the
calibration did not see, teacher-forced, with sublayers left out by AdaSkip and by the ways it is
compared with: while the context is read (prefill), while going on from it (decode), or in both (end
to end). Attention that was left out of a context has no KV, so with prefill alone it stays left out
behind it. Times are of the kernels, ways taking turns within each round.
"""

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import report
from artesian.calibrate import Prompts, calibrate, default_prompts, measure_prompt
from artesian.engine.batch import Batch
from artesian.eval.session import BLOCK_TOKENS, Room, Session, log_probabilities
from artesian.eval.tasks import TASKS
from artesian.eval.texts import sentences, standard_text
from artesian.loader import Checkpoint, open_checkpoint
from artesian.machine import num_usable_cpus
from artesian.ops.base import F32
from artesian.skip import (
    Calibration,
    OnlineExtension,
    Similarity,
    SkipSet,
    hit_rate,
    read_calibration,
)
from artesian.skip.policies import (
    EarlyExit,
    GainPerCost,
    LeastInfluence,
    MostSimilar,
    Selection,
    SkipDecode,
    UnifiedSkipping,
    alpha_of,
)
from engines import MODELS
from machine import describe
from report import Row

OURS = "AdaSkip"
UNSCALED = "AdaSkip, no scales"
RANKED = ("unified skipping", "early exit", "SkipDecode")
"""What the paper finds worse."""
CONTEXT, TAIL, WATCHED = 768, 96, 20
TEXT_BLOCKS = (CONTEXT + TAIL) // BLOCK_TOKENS + 1
CHUNK = 512
LENGTHS = (1024, 4096, 8000)
DECODED = 32
console = report.make_console()


@dataclass(frozen=True)
class Subject:
    """A calibrated model, ready to run."""

    name: str
    checkpoint: Checkpoint
    session: Session
    calibration: Calibration
    prompts: Prompts

    def policies(self, context_tokens: int = CONTEXT) -> dict[str, Selection]:
        """All ways of choosing."""
        assert self.calibration.decode is not None
        return {
            OURS: MostSimilar(),
            UNSCALED: MostSimilar(has_scales=False),
            "gain per cost": GainPerCost(self.calibration.decode, context_tokens),
            "least influence": LeastInfluence(),
            "unified skipping": UnifiedSkipping(),
            "early exit": EarlyExit(),
            "SkipDecode": SkipDecode(),
        }


def run(
    session: Session,
    start: int,
    tokens: Sequence[int],
    skip: SkipSet | None = None,
    *,
    wants_all: bool = False,
    probe: F32 | None = None,
    place: int = 0,
) -> F32:
    """Computes tokens of the sequence whose KV begins at block `place`; the logits of all of them
    or of the last one."""
    end = start + len(tokens)
    return session.runner.forward(
        Batch(
            tokens=np.asarray(tokens, np.int32),
            positions=np.arange(start, end, dtype=np.int32),
            row_starts=np.asarray([0, len(tokens)], np.int32),
            context_lens=np.asarray([end], np.int32),
            block_tables=np.arange(place, place - -end // BLOCK_TOKENS, dtype=np.int32)[None],
            logit_rows=np.arange(0 if wants_all else len(tokens) - 1, len(tokens), dtype=np.int32),
            skips=[(0, skip)] if skip is not None and skip.sublayers else (),
            probe=probe,
        )
    )


def read(
    session: Session, tokens: Sequence[int], skip: SkipSet | None = None, place: int = 0
) -> None:
    """Reads a context."""
    for start in range(0, len(tokens), CHUNK):
        run(session, start, tokens[start : start + CHUNK], skip, place=place)


def losses(
    session: Session, start: int, tokens: Sequence[int], skip: SkipSet | None, place: int = 0
) -> F32:
    """Minus the log probabilities of tokens[1:] behind tokens[0], which is at position `start`."""
    logs = log_probabilities(run(session, start, tokens[:-1], skip, wants_all=True, place=place))
    found: F32 = -logs[np.arange(len(tokens) - 1), np.asarray(tokens[1:])]
    return found


def attention_of(skip: SkipSet) -> SkipSet:
    """The attention sublayers of a set."""
    kept = [pair for pair in zip(skip.sublayers, skip.scales, strict=True) if pair[0] % 2 == 0]
    return SkipSet(tuple(n for n, _ in kept), tuple(s for _, s in kept))


def passages(subject: Subject, count: int) -> list[list[int]]:
    """Between those of the calibration."""
    tokenizer = subject.checkpoint.tokenizer()
    text = standard_text()
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    step = len(text) // count
    found = []
    for index in range(count):
        part = text[index * step + step // 3 :][: 12 * CONTEXT]
        tokens = tokenizer.encode(part, add_special_tokens=False)
        found.append([*begin, *tokens][: CONTEXT + TAIL])
    return found


def perplexities(subject: Subject, texts: list[list[int]], skip: SkipSet) -> dict[str, float]:
    """Of the tails, by when sublayers are left out. The exact KV of each context is kept."""
    session = subject.session
    found: dict[str, list[F32]] = {"prefill": [], "decode": [], "end to end": []}
    for number, text in enumerate(texts):
        context, tail = text[: CONTEXT - 1], text[CONTEXT - 1 :]
        read(session, context, skip)
        found["end to end"].append(losses(session, len(context), tail, skip))
        found["prefill"].append(losses(session, len(context), tail, attention_of(skip)))
        place = (1 + number) * TEXT_BLOCKS
        found["decode"].append(losses(session, len(context), tail, skip, place))
    return {name: float(np.exp(np.concatenate(parts).mean())) for name, parts in found.items()}


def passkeys(subject: Subject, skip: SkipSet, count: int) -> float:
    """Part of digits found."""
    tokenizer, right = subject.checkpoint.tokenizer(), []

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    prose = sentences(standard_text())
    for seed in range(count):
        sample = TASKS["passkey"].sample(100 + seed, CONTEXT, encode, prose)
        context = [*begin, *sample.context]
        question = sample.questions[0]
        read(subject.session, context, skip)
        logits = run(subject.session, len(context), question.tokens, skip, wants_all=True)
        likeliest = logits.argmax(axis=1)
        for first, end in question.answers:
            right += [likeliest[i - 1] == question.tokens[i] for i in range(first, end)]
    return float(np.mean(right))


def quality_rows(subject: Subject, counts: Sequence[int], num_texts: int) -> Iterator[Row]:
    """The paper's table."""
    texts = passages(subject, num_texts)
    for number, text in enumerate(texts):
        read(subject.session, text[: CONTEXT - 1], place=(1 + number) * TEXT_BLOCKS)
    full = perplexities(subject, texts, SkipSet())["decode"]
    exact = passkeys(subject, SkipSet(), num_texts)
    for count in counts:
        tables: dict[str, dict[str, float]] = {}
        keys: dict[str, float] = {"full": exact}
        for name, policy in subject.policies().items():
            skip = policy.choose(subject.calibration, count)
            tables[name] = perplexities(subject, texts, skip)
            keys[name] = passkeys(subject, skip, num_texts)
        for kind in ("prefill", "decode", "end to end"):
            values = {"full": full, **{name: found[kind] for name, found in tables.items()}}
            what = f"{subject.name}: {count} left out, {kind}"
            for other in RANKED:
                yield Row(
                    subject=subject.name,
                    metric=f"{what}: perplexity beside {other}",
                    value=values[OURS],
                    unit="",
                    baseline=other,
                    baseline_value=values[other],
                    better="less",
                    target=1.0,
                    values=values,
                )
            yield Row(
                subject=subject.name,
                metric=f"{what}: perplexity with scales beside without",
                value=values[OURS],
                unit="",
                baseline=UNSCALED,
                baseline_value=values[UNSCALED],
                better="less",
                target=1.0,
                values=values,
            )
        yield Row(
            subject=subject.name,
            metric=f"{subject.name}: {count} left out: digits of passkeys",
            value=keys[OURS],
            unit="",
            values=keys,
        )


def online_row(subject: Subject, count: int, num_texts: int) -> Row:
    """Perplexity behind the watched tokens, with the FFNs that they say can go and without."""
    session, fixed = subject.session, MostSimilar().choose(subject.calibration, count)
    found: dict[str, list[F32]] = {"fixed set": [], "extended": []}
    extra = []
    for text in passages(subject, num_texts):
        context, tail = text[: CONTEXT - 1], text[CONTEXT - 1 :]
        read(session, context, fixed)
        online = OnlineExtension(subject.calibration, fixed, WATCHED)
        probe = np.empty((2, 2 * subject.calibration.num_layers, WATCHED), np.float32)
        run(session, len(context), tail[:WATCHED], fixed, wants_all=True, probe=probe)
        online.observe(probe)
        extended = online.extended()
        extra.append(len(extended.sublayers) - len(fixed.sublayers))
        for name, skip in (("fixed set", fixed), ("extended", extended)):
            found[name].append(losses(session, len(context) + WATCHED, tail[WATCHED:], skip))
    values = {name: float(np.exp(np.concatenate(parts).mean())) for name, parts in found.items()}
    return Row(
        subject=subject.name,
        metric=f"{subject.name}: {count} left out, {statistics.mean(extra):.1f} FFNs more behind "
        f"{WATCHED} tokens: perplexity",
        value=values["extended"],
        unit="",
        values=values,
    )


def transfer_row(subject: Subject) -> Row:
    """Whether other prompts say the same."""
    halves = []
    for part in (subject.prompts.measured[::2], subject.prompts.measured[1::2]):
        similarity = Similarity(2 * subject.calibration.num_layers)
        for tokens in part:
            measure_prompt(subject.session, tokens, similarity)
        halves.append(similarity.similarities)
    rates = {f"top {n}": hit_rate(halves[0], halves[1], n) for n in (8, 12, 16)}
    return Row(
        subject=subject.name,
        metric=f"{subject.name}: most similar sublayers of half the prompts that the other half "
        "finds, too",
        value=rates["top 8"],
        unit="",
        values=rates,
    )


def time_rows(
    subject: Subject, counts: Sequence[int], lengths: Sequence[int], rounds: int
) -> Iterator[Row]:
    """Real speed-ups of prefill, decode and both, beside alpha."""
    rng = np.random.default_rng(0)
    policy = MostSimilar()
    ways = {0: SkipSet(), **{n: policy.choose(subject.calibration, n) for n in counts}}
    for length in lengths:
        tokens = [int(t) for t in rng.integers(1000, 40000, length)]
        prefill: dict[int, list[float]] = {n: [] for n in ways}
        decode: dict[int, list[float]] = {n: [] for n in ways}
        for _ in range(rounds):
            for number, skip in ways.items():
                start = time.perf_counter()
                read(subject.session, tokens, skip)
                prefill[number].append(time.perf_counter() - start)
                steps = []
                for step in range(DECODED):
                    start = time.perf_counter()
                    run(subject.session, length + step, [7], skip)
                    steps.append(time.perf_counter() - start)
                decode[number].append(statistics.median(steps) * DECODED)
        both = {n: [a + b for a, b in zip(prefill[n], decode[n], strict=True)] for n in ways}
        for name, times in (("prefill", prefill), ("decode", decode), ("end to end", both)):
            for count in counts:
                ups = [a / b for a, b in zip(times[0], times[count], strict=True)]
                alpha = alpha_of(subject.calibration.num_layers, count)
                yield Row(
                    subject=subject.name,
                    metric=f"{subject.name}: {count} left out, {length} tokens, {name}: speed-up",
                    value=statistics.median(ups),
                    unit="",
                    baseline="alpha",
                    baseline_value=alpha,
                    values={"real": statistics.median(ups), "alpha": alpha},
                    spread={"real": (min(ups), max(ups))},
                )


def main() -> None:
    """Measures, prints, and writes results/skip.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="*", default=[model.name for model in MODELS])
    parser.add_argument("--skipped", type=int, nargs="*", default=[4, 8, 12])
    parser.add_argument("--lengths", type=int, nargs="*", default=list(LENGTHS))
    parser.add_argument("--texts", type=int, default=6)
    parser.add_argument("--parts", nargs="*", default=["quality", "times"])
    parser.add_argument("--threads", type=int, default=num_usable_cpus())
    parser.add_argument("--calibration", help="file of artesian calibrate; default: made first")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows: list[Row] = []
    calibrations = {}
    for model in MODELS:
        path = model.find()
        if model.name not in arguments.models or path is None:
            continue
        checkpoint = open_checkpoint(str(path))
        prompts = default_prompts(checkpoint.tokenizer(), 512)
        if arguments.calibration is None:
            known = calibrate(checkpoint, prompts, num_threads=arguments.threads)
        else:
            known = read_calibration(Path(arguments.calibration), checkpoint.fingerprint())
        texts_tokens = (arguments.texts + 1) * TEXT_BLOCKS * BLOCK_TOKENS
        room = Room(max([*arguments.lengths, texts_tokens]) + 4 * BLOCK_TOKENS, 1, 1)
        session = Session(checkpoint, room, num_threads=arguments.threads)
        subject = Subject(model.title, checkpoint, session, known, prompts)
        order = MostSimilar().order(known)[:16]
        calibrations[model.title] = {
            "first 16": [f"{'FFN' if n % 2 else 'attention'} {n // 2}" for n in order],
            "losses": [(loss.num_skipped, loss.nats) for loss in known.losses],
            "prompts": len(prompts.measured),
            "tokens": known.num_tokens,
        }
        found: list[Row] = []
        if "quality" in arguments.parts:
            found += quality_rows(subject, arguments.skipped, arguments.texts)
            found.append(online_row(subject, arguments.skipped[-1], arguments.texts))
            found.append(transfer_row(subject))
        if "times" in arguments.parts:
            found += time_rows(subject, arguments.skipped, arguments.lengths, arguments.rounds)
        for row in found:
            console.print(f"{row.metric}: {row.value:.3f}", row.values, soft_wrap=True)
        rows += found
    extra = {"calibrations": calibrations, "context": CONTEXT, "tail": TAIL}
    console.print(f"written to {report.write('skip', rows, describe(), extra, adds=True)}")


if __name__ == "__main__":
    main()
