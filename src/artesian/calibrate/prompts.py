"""What a model is calibrated on: a user's prompts, or varied ones that everybody has."""

import hashlib
import inspect
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import numpy as np

from artesian.eval.tasks import TASKS
from artesian.eval.texts import sentences, standard_text
from artesian.loader import Tokenizer

_MODULES = ("json.decoder", "textwrap", "heapq", "shlex", "fractions", "calendar")
_TASKS = ("passkey", "needle-2", "variables", "key-value")
_HELD_OUT_EVERY = 5


@dataclass(frozen=True, slots=True)
class Prompts:
    """Token ids of prompts: to measure on, and to see what that is worth."""

    measured: list[list[int]]
    held_out: list[list[int]]


def prompt_hash(tokens: Sequence[int]) -> str:
    """SHA-256 of token ids as int32, little-endian."""
    return hashlib.sha256(np.asarray(tokens, "<i4").tobytes()).hexdigest()


def default_prompts(tokenizer: Tokenizer, num_tokens: int) -> Prompts:
    """Thirty prompts of `num_tokens` tokens at most: a novel, the reference of the Python language
    and sources of its library, made-up questions, tables and conversations."""
    texts = list(_texts(num_tokens))
    made = [tokenizer.encode(text)[:num_tokens] for text in texts]
    made += list(_task_prompts(tokenizer, num_tokens))
    return _hold_out(made)


def read_prompts(paths: Sequence[Path], tokenizer: Tokenizer, num_tokens: int) -> Prompts:
    """A user's prompts, each cut to `num_tokens`: a file is one, or with the suffix .jsonl one a
    line, as a text or as an object with "prompt".

    Raises:
        OSError: a file cannot be read.
        ValueError: one is no such file, or there is nothing to measure.
    """
    texts = [text for path in paths for text in _read(path)]
    made = [tokenizer.encode(text)[:num_tokens] for text in texts]
    made = [tokens for tokens in made if len(tokens) > 1]
    if not made:
        raise ValueError("the prompts are empty: calibration needs some, 20 or more varied ones")
    return _hold_out(made)


def _hold_out(made: list[list[int]]) -> Prompts:
    """Every fifth is not measured on; of fewer, none, and losses are of what was measured."""
    held = made[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY]
    measured = [t for i, t in enumerate(made) if i % _HELD_OUT_EVERY != _HELD_OUT_EVERY - 1]
    return Prompts(measured, held or measured)


def _read(path: Path) -> list[str]:
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from None
    if path.suffix != ".jsonl":
        return [text]
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            value = json.loads(line) if line.strip() else ""
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number} is not JSON: {error}") from None
        prompt = value.get("prompt") if isinstance(value, dict) else value
        if not isinstance(prompt, str):
            raise ValueError(f'{path}, line {number} is neither a text nor has a "prompt"')
        found.append(prompt)
    return found


def _texts(num_tokens: int) -> Iterator[str]:
    """Of each kind some, mixed, each long enough."""
    length = 8 * num_tokens
    novel = (files("artesian.eval") / "sample.txt").read_text("utf-8")
    reference = standard_text()
    rng = random.Random("prompts")
    for index, name in enumerate(_MODULES):
        yield _passage(novel, index, len(_MODULES), length)
        yield _passage(reference, index, len(_MODULES), length)
        yield inspect.getsource(import_module(name))[:length]
        yield _table(rng, num_tokens) if index % 2 else _conversation(rng, reference)


def _passage(text: str, index: int, count: int, length: int) -> str:
    first = max(0, len(text) - length) * index // max(1, count - 1)
    return text[first : first + length]


def _table(rng: random.Random, num_lines: int) -> str:
    """Comma-separated values in which a column follows from others."""
    lines = ["day,item,pieces,price,total"]
    for _ in range(num_lines // 8):
        pieces, price = rng.randrange(1, 40), rng.randrange(1, 90)
        item = rng.choice(["bread", "lamp", "rope", "salt", "paper", "brush"])
        lines.append(f"{rng.randrange(1, 366)},{item},{pieces},{price},{pieces * price}")
    return "\n".join(lines)


def _conversation(rng: random.Random, reference: str) -> str:
    """Questions about sentences, and these as answers."""
    said = sentences(reference)
    turns = []
    for sentence in rng.sample(said, 24):
        topic = " ".join(sentence.split()[:4])
        turns.append(f"User: What about {topic}?\nAssistant:{sentence} Anything else?")
    return "\n".join(turns)


def _task_prompts(tokenizer: Tokenizer, num_tokens: int) -> Iterator[list[int]]:
    """Contexts with something to find, and the question and answer behind them."""

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    prose = sentences(standard_text())
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    for seed in range(2):
        for name in _TASKS:
            if name in TASKS and num_tokens > 128:
                sample = TASKS[name].sample(seed, num_tokens - 64, encode, prose)
                tokens = [*begin, *sample.context, *sample.questions[0].tokens]
                yield tokens[:num_tokens]
