"""How well ways of going on from a context answer questions about it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from artesian.eval.session import Forcing, Session, log_probabilities
from artesian.eval.tasks import Encode, Question, Sample, Task
from artesian.eval.ways import Way
from artesian.eval.wilson import wilson_95
from artesian.skip import SkipSet

GATE = 0.8
"""Part of the answers that the exact way must give for a task to tell right from wrong."""


@dataclass(slots=True)
class TaskScore:
    """One way's answers.

    Attributes:
        is_right: of each answer whether greedy decoding would have given it.
        losses_nats: of each answer the mean loss of its tokens.
    """

    is_right: list[bool] = field(default_factory=list)
    losses_nats: list[float] = field(default_factory=list)

    @property
    def accuracy(self) -> float:
        """Part of the answers that are right."""
        return sum(self.is_right) / len(self.is_right)

    @property
    def interval_95(self) -> tuple[float, float]:
        """Wilson's interval of the accuracy, answers taken as independent."""
        return wilson_95(sum(self.is_right), len(self.is_right))

    @property
    def mean_nats(self) -> float:
        """Mean loss of an answer's token."""
        return float(np.mean(self.losses_nats))


@dataclass(frozen=True, slots=True)
class TaskResult:
    """A task's answers by way; the first way is the exact one."""

    task: str
    is_exact: bool
    scores: dict[str, TaskScore]

    @property
    def passes_gate(self) -> bool:
        """Whether accuracies say something: the exact way is good enough at it."""
        exact = next(iter(self.scores.values()))
        return self.is_exact and exact.accuracy >= GATE

    def is_inside(self, way: str) -> bool:
        """Whether a way's accuracy is within the exact way's interval, or above it."""
        low, _ = next(iter(self.scores.values())).interval_95
        return self.scores[way].accuracy >= low


@dataclass(frozen=True, slots=True)
class Reading:
    """What samples are made with.

    Attributes:
        num_tokens: of a context, what begins a text included.
        prefix: tokens that begin a text.
        prose: sentences to hide things in.
    """

    num_tokens: int
    encode: Encode
    prefix: Sequence[int]
    prose: Sequence[str]

    def samples(self, task: Task, num_samples: int) -> list[Sample]:
        """Samples of the seeds from 0, ordered so that neighbours begin alike as far as can be:
        then less has to be computed."""
        room = self.num_tokens - len(self.prefix)
        made = [task.sample(s, room, self.encode, self.prose) for s in range(num_samples)]
        return sorted(made, key=lambda sample: sample.context)


def run_task(
    session: Session, ways: Sequence[Way], task: Task, reading: Reading, num_samples: int
) -> TaskResult:
    """Asks all questions of a task in all ways.

    Everything behind the context is read as if it were generated, a token a step: what a way leaves
    out it leaves out for the question, too, which is more than serving does.
    """
    scores = {way.name: TaskScore() for way in ways}
    for skip, group in by_skip(ways):
        for sample in reading.samples(task, num_samples):
            session.read([*reading.prefix, *sample.context], skip)
            asked = [(way, question) for question in sample.questions for way in group]
            for first in range(0, len(asked), session.num_forks):
                _ask(session, asked[first : first + session.num_forks], scores)
    return TaskResult(task.name, task.is_exact, scores)


def by_skip(ways: Sequence[Way]) -> Iterator[tuple[SkipSet, list[Way]]]:
    """The ways by what they skip: those of a group can share a context's KV."""
    for skip in dict.fromkeys(way.skip for way in ways):
        yield skip, [way for way in ways if way.skip == skip]


def _ask(
    session: Session, asked: Sequence[tuple[Way, Question]], scores: dict[str, TaskScore]
) -> None:
    losses = [np.zeros(len(question.tokens)) for _, question in asked]
    likeliest = [np.zeros(len(question.tokens), bool) for _, question in asked]
    forks = session.forks([way for way, _ in asked])
    tails = [question.tokens[:-1] for _, question in asked]
    wanted_from = Forcing(first=[question.answers[0][0] - 1 for _, question in asked])
    for number, rows, logits in session.force(forks, tails, wanted_from):
        logs = log_probabilities(logits)
        wanted = [asked[i][1].tokens[number + 1] for i in rows]
        chosen = logs[np.arange(len(rows)), wanted]
        best = logs.argmax(axis=1) == wanted
        for i, value, is_best in zip(rows, chosen, best, strict=True):
            losses[i][number + 1] = -value
            likeliest[i][number + 1] = is_best
    for i, (way, question) in enumerate(asked):
        for begin, end in question.answers:
            scores[way.name].is_right.append(bool(likeliest[i][begin:end].all()))
            scores[way.name].losses_nats.append(float(losses[i][begin:end].mean()))
