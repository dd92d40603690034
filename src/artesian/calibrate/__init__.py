"""Finding out which sublayers of a model can be left out, and what that saves."""

from artesian.calibrate.measure import calibrate, loss_nats, measure_prompt
from artesian.calibrate.prompts import Prompts, default_prompts, prompt_hash, read_prompts

__all__ = [
    "Prompts",
    "calibrate",
    "default_prompts",
    "loss_nats",
    "measure_prompt",
    "prompt_hash",
    "read_prompts",
]
