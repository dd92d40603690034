"""What ways of attending, and of skipping, cost behind a long context, and what they save."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from artesian.eval.late import LateResult, measure_late
from artesian.eval.score import Reading, TaskResult, run_task
from artesian.eval.session import Room, Session
from artesian.eval.speed import StepTimes, time_steps
from artesian.eval.tasks import TASKS
from artesian.eval.texts import passages, sentences
from artesian.eval.ways import DENSE, Way
from artesian.loader import Checkpoint
from artesian.ops.base import KvDtype
from artesian.ops.native import Isa

_MAX_FORKS = 32
_QUESTION_TOKENS = 128
_TIMED_TOKENS = 9
_TASKS = ("passkey", "needle", "needles-2", "values-3", "variables-1", "key-value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        context_tokens: length of contexts.
        num_late: tokens that are predicted behind each passage.
        num_passages: passages of the text.
        tasks: their names, see `TASKS`.
        num_samples: of each task.
        num_rounds: of timing; 0 for none.
    """

    context_tokens: int = 4000
    num_late: int = 256
    num_passages: int = 2
    tasks: Sequence[str] = _TASKS
    num_samples: int = 20
    num_rounds: int = 5


@dataclass(frozen=True, slots=True)
class LongContextResult:
    """Everything by way; the exact way is the first."""

    ways: list[Way]
    late: list[LateResult]
    tasks: list[TaskResult]
    times: dict[str, StepTimes]

    def speed_up(self, way: str) -> float:
        """How many times as fast as the exact way a decode step is."""
        return self.times[self.ways[0].name].step_s / self.times[way].step_s

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "ways": [way_facts(late, self.times.get(late.way)) for late in self.late],
            "tasks": [task_facts(task) for task in self.tasks],
        }


def open_session(
    checkpoint: Checkpoint,
    plan: Plan,
    *,
    num_threads: int,
    isa: Isa | None = None,
    kv_dtype: KvDtype | None = None,
) -> Session:
    """A session with room for what `plan` asks.

    Raises:
        ValueError: the model was made for shorter contexts.
    """
    read_behind = max(plan.num_late + 1, _QUESTION_TOKENS if plan.tasks else 0, _TIMED_TOKENS)
    longest = plan.context_tokens + read_behind
    if longest > checkpoint.config.max_model_len:
        raise ValueError(
            f"{plan.context_tokens} tokens and what is read behind them are {longest}: the model "
            f"was made for at most {checkpoint.config.max_model_len}"
        )
    room = Room(plan.context_tokens, _MAX_FORKS, read_behind, num_copies=1)
    return Session(checkpoint, room, num_threads=num_threads, isa=isa, kv_dtype=kv_dtype)


def evaluate(
    session: Session, checkpoint: Checkpoint, ways: Sequence[Way], text: str, plan: Plan
) -> LongContextResult:
    """Measures all of `ways`, and the exact way before them.

    Raises:
        ValueError: the text is too short, or there are too many ways.
    """
    every = [DENSE, *(way for way in ways if way != DENSE)]
    if len(every) > _MAX_FORKS:
        raise ValueError(f"{len(every)} ways are more than the {_MAX_FORKS} that go at once")
    tokenizer = checkpoint.tokenizer()
    whole = tokenizer.encode(text)
    plain = tokenizer.encode(text, add_special_tokens=False)
    prefix = whole[: len(whole) - len(plain)]
    read = passages(plain, prefix, plan.context_tokens + plan.num_late + 1, plan.num_passages)
    late = measure_late(session, every, read, plan.num_late)
    times: dict[str, StepTimes] = {}
    if plan.num_rounds:
        timed = read[-1][plan.context_tokens :][:_TIMED_TOKENS]
        times = time_steps(session, every, timed, num_rounds=plan.num_rounds)
    reading = Reading(
        plan.context_tokens,
        lambda words: tokenizer.encode(words, add_special_tokens=False),
        prefix,
        sentences(text),
    )
    tasks = [run_task(session, every, TASKS[n], reading, plan.num_samples) for n in plan.tasks]
    return LongContextResult(every, late, tasks, times)


def way_facts(late: LateResult, times: StepTimes | None) -> dict[str, object]:
    """One way's text and time, for JSON."""
    change = late.difference
    facts: dict[str, object] = {
        "way": late.way,
        "perplexity": late.perplexity.value,
        "perplexity_interval_95": late.perplexity.interval_95,
        "perplexity_ratio": 1.0 if change is None else change.ratio,
        "difference_nats": 0.0 if change is None else change.mean_nats,
        "difference_half_width_nats": 0.0 if change is None else change.half_width_nats,
        "divergence_nats": float(late.divergence_nats.mean()),
        "divergence_p95_nats": float(np.quantile(late.divergence_nats, 0.95)),
        "agreement": float(late.agrees.mean()),
        "groups_kept": late.kept.ratio,
        "mass_mean": late.kept.mean_mass,
        "mass_p05": late.kept.low_mass,
        "kv_bytes_per_token": late.bytes_read,
    }
    if times is not None:
        facts |= {"step_s": times.step_s, "attention_s": times.attention}
    return facts


def task_facts(result: TaskResult) -> dict[str, object]:
    """One task, for JSON."""
    return {
        "task": result.task,
        "passes_gate": result.passes_gate,
        "scores": {
            way: {
                "num_answers": len(score.is_right),
                "accuracy": score.accuracy,
                "interval_95": score.interval_95,
                "mean_nats": score.mean_nats,
                "is_inside": result.is_inside(way),
            }
            for way, score in result.scores.items()
        },
    }
