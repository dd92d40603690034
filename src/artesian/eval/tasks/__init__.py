"""Tasks with known answers, made from seeds."""

from artesian.eval.tasks.base import Encode, Question, Sample, Task
from artesian.eval.tasks.key_value import KeyValue
from artesian.eval.tasks.needle import MultiValue, Needle
from artesian.eval.tasks.passkey import Passkey
from artesian.eval.tasks.variables import Variables

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Passkey(),
        Needle(1),
        Needle(2),
        Needle(4),
        MultiValue(3),
        Variables(1),
        KeyValue(),
    )
}

__all__ = [
    "TASKS",
    "Encode",
    "KeyValue",
    "MultiValue",
    "Needle",
    "Passkey",
    "Question",
    "Sample",
    "Task",
    "Variables",
]
