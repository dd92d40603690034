"""Conversations whose every turn is a prompt: real ones, and one that grows to the full window."""

import json
import lzma
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from artesian.loader.base import Tokenizer

AGENT = "conversations/taubench_gpt4o_airline_tasks0-29.jsonl.xz"
CHAT = "conversations/mtbench101_first1000.jsonl.xz"
FIRST_ID, LAST_ID = 1_000, 40_000
"""Of tokens that mean nothing in a template, and that both demo models have."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Token ids of the prompts of its turns, each beginning with those before it."""

    prompts: list[list[int]]


def growing(seed: int, window: int, num_new: int, num_answer: int) -> Conversation:
    """Turns of `num_new` tokens and answers of `num_answer` until the window is full."""
    source = random.Random(seed)
    prompts: list[list[int]] = []
    tokens: list[int] = []
    while len(tokens) + num_new + num_answer < window:
        tokens = tokens + [source.randrange(FIRST_ID, LAST_ID) for _ in range(num_new)]
        prompts.append(tokens)
        tokens = tokens + [source.randrange(FIRST_ID, LAST_ID) for _ in range(num_answer)]
    return Conversation(prompts)


def recorded(
    data: Path, name: str, tokenizer: Tokenizer, count: int, longest: int
) -> list[Conversation]:
    """The first `count` recorded conversations of several turns that fit into `longest` tokens."""
    found = []
    for messages in _read(data / name):
        conversation = _tokenize(messages, tokenizer, longest)
        if len(conversation.prompts) > 1:
            found.append(conversation)
        if len(found) == count:
            break
    return found


def _read(path: Path) -> Iterator[list[dict[str, object]]]:
    with lzma.open(path, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            if "traj" in row:
                yield [_plain(message) for message in row["traj"]]
            else:
                turns = ((turn["user"], turn["bot"]) for turn in row["history"])
                yield [
                    {"role": role, "content": content or ""}
                    for turn in turns
                    for role, content in zip(("user", "assistant"), turn, strict=True)
                ]


def _plain(message: dict[str, object]) -> dict[str, object]:
    """Tools' results are what the user says, and calls are what the assistant says."""
    content = str(message.get("content") or json.dumps(message.get("tool_calls") or ""))
    role = str(message["role"])
    return {"role": "user" if role == "tool" else role, "content": content}


def _tokenize(
    messages: Sequence[dict[str, object]], tokenizer: Tokenizer, longest: int
) -> Conversation:
    """A prompt for each turn of the assistant's, as long as they fit."""
    prompts = []
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            text = tokenizer.apply_chat_template(list(messages[:index]))
            tokens = tokenizer.encode(text, add_special_tokens=False)
            if len(tokens) > longest:
                break
            prompts.append(tokens)
    return Conversation(prompts)
