"""How the benchmark talks to an engine: one JSON object a line, in and out, over pipes.

An adapter runs under the Python of its engine's own virtual environment, so this file needs
nothing but the standard library. An adapter subclasses `Adapter` and calls `serve`.
"""

import json
import os
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict


class EngineNote(TypedDict):
    """What an engine is and how it computes.

    `weights`, `compute` and `kv` say precisions in words, for people.
    """

    name: str
    version: str
    weights: str
    compute: str
    kv: str


class DecodeTime(TypedDict):
    """Times of a group of requests that run side by side.

    `prefill_s` runs from the first submission until every request has its first token;
    `decode_s` from there until all have `num_tokens` more, `num_tokens` over all requests.
    """

    prefill_s: float
    decode_s: float
    num_tokens: int


class Adapter(ABC):
    """One engine, loaded once. No prompt begins like an earlier one, so no prefix is cached."""

    @abstractmethod
    def load(
        self, model: str, num_threads: int, max_num_seqs: int, max_model_len: int
    ) -> EngineNote:
        """Loads `model`, ready for `max_num_seqs` requests of `max_model_len` tokens each."""

    @abstractmethod
    def prefill_s(self, prompt: list[int]) -> float:
        """Seconds from submitting `prompt` until its first token is known."""

    @abstractmethod
    def decode(self, prompts: list[list[int]], num_tokens: int) -> DecodeTime:
        """Runs the prompts at once, greedily, `num_tokens` behind each first token."""

    def nll(self, windows: list[list[int]]) -> list[float]:
        """Mean negative log-likelihood (nats a token) of each window's tokens but its first."""
        raise NotImplementedError(f"{type(self).__name__} gives no logits")

    def tokenize(self, text: str) -> list[int]:
        """Token ids of `text` as the model's own tokenizer makes them, begin token included."""
        raise NotImplementedError(f"{type(self).__name__} does not tokenize")


def peak_memory_mib() -> float:
    """Largest resident set of this process so far, MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmHWM line; peak memory needs Linux")


def serve(adapter: Adapter) -> None:
    """Answers calls from standard input until it closes; prints of libraries go to stderr."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    calls: dict[str, Callable[..., Any]] = {
        "load": adapter.load,
        "prefill_s": adapter.prefill_s,
        "decode": adapter.decode,
        "nll": adapter.nll,
        "tokenize": adapter.tokenize,
        "peak_memory_mib": peak_memory_mib,
    }
    for line in sys.stdin:
        call: dict[str, Any] = json.loads(line)
        try:
            reply: dict[str, Any] = {"value": calls[call["op"]](*call["args"])}
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
