"""A small deterministic engine and tokenizer: what front and worker need, without a model.

Tokens are bytes, 256 is the beginning and 257 the end of a text. The model "continues" a prompt
with the letters that follow its last byte in the alphabet, whatever else runs. Prompts can ask for
trouble: "!invalid" and "!crash" (in add_request), "!fail" (this request, in a step), "!die" (the
process, after two tokens), "!die-once" (only when no earlier worker did), "!defect" (step raises).
"""

import codecs
import os
import time
from collections.abc import Sequence

from artesian.config import EngineConfig
from artesian.engine.base import (
    EngineInfo,
    EngineStats,
    FinishReason,
    InvalidRequestError,
    OutputLogprobs,
    QueueFullError,
    Request,
    RequestMetrics,
    RequestOutput,
    TokenLogprob,
)
from artesian.engine.handover import Handover
from artesian.engine.questions import (
    Deleted,
    DeleteSession,
    ExplainPrompt,
    Explanation,
    ListSessions,
    PinSession,
    Question,
    Reply,
    Resumed,
    ResumeSession,
    Sessions,
    ShowSession,
)

BOS, EOS, VOCAB_SIZE = 256, 257, 258
ALPHABET = "abcdefghijklmnopqrstuvwxyzé€"
CYCLE = ALPHABET.encode()
MAX_MODEL_LEN = 4096


class ToySequence:
    def __init__(self, request: Request, index: int, max_model_len: int) -> None:
        self.request, self.index = request, index
        self.arrived = time.monotonic()
        self.room = max_model_len - len(request.prompt_token_ids)
        self.output = list(request.output_token_ids)
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.text = self.decoder.decode(bytes(self.output))
        self.num_replayed = len(self.output)
        last = request.prompt_token_ids[-1] % 256
        self.offset = (CYCLE.index(last) + 1 if last in CYCLE else 0) + index

    def step(self) -> RequestOutput:
        sampling = self.request.sampling
        token = CYCLE[(self.offset + len(self.output)) % len(CYCLE)]
        self.output.append(token)
        before = len(self.text)
        self.text += self.decoder.decode(bytes([token]))
        reason: FinishReason | None = None
        stop: str | int | None = None
        for text in sampling.stop:
            position = self.text.find(text)
            if position >= 0:
                self.text, reason, stop = self.text[:position], "stop", text
        if reason is None and token in sampling.stop_token_ids:
            reason, stop = "stop", token
        if reason is None and len(self.output) >= min(sampling.max_tokens or self.room, self.room):
            reason = "length"
        logprobs = None
        if sampling.logprobs is not None:
            top = [TokenLogprob((token + i) % 256, -0.5 - i) for i in range(sampling.logprobs)]
            logprobs = [OutputLogprobs(TokenLogprob(token, -0.5), top)]
        return RequestOutput(
            request_id=self.request.request_id,
            index=self.index,
            token_ids=[token],
            text=self.text[before:],
            logprobs=logprobs,
            finish_reason=reason,
            stop_reason=stop,
            num_prompt_tokens=len(self.request.prompt_token_ids),
            num_cached_tokens=len(self.request.prompt_token_ids) // 32 * 32,
            num_output_tokens=len(self.output),
            metrics=RequestMetrics(queue_ms=1.0, ttft_ms=2.0, prefill_ms=1.0),
        )


class ToyEngine:
    handover: Handover | None = None

    def __init__(self, config: EngineConfig, step_s: float) -> None:
        self.config, self.step_s = config, step_s
        self.max_model_len = config.max_model_len or MAX_MODEL_LEN
        self.waiting: list[Request] = []
        self.running: list[ToySequence] = []
        self.num_steps = self.prompt_tokens = self.generation_tokens = self.computed_tokens = 0
        self.busy_s = 0.0

    def add_request(self, request: Request) -> None:
        text = bytes(t for t in request.prompt_token_ids if t < 256).decode(errors="replace")
        if "!invalid" in text:
            raise InvalidRequestError("the prompt contains '!invalid'")
        if "!crash" in text:
            raise RuntimeError("crash in add_request")
        if len(self.waiting) >= self.config.max_queue_len:
            raise QueueFullError("queue full")
        self.prompt_tokens += len(request.prompt_token_ids)
        self.waiting.append(request)

    def abort(self, request_id: str) -> None:
        self.waiting = [r for r in self.waiting if r.request_id != request_id]
        self.running = [s for s in self.running if s.request.request_id != request_id]

    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def step(self) -> list[RequestOutput]:
        started = time.monotonic()
        time.sleep(self.step_s)
        self.busy_s += time.monotonic() - started
        self.num_steps += 1
        while self.waiting and len(self.running) < self.config.max_num_seqs:
            request = self.waiting.pop(0)
            self.computed_tokens += len(request.prompt_token_ids) - 1
            self.running += [
                ToySequence(request, i, self.max_model_len) for i in range(request.sampling.n)
            ]
        outputs = [self._run(sequence) for sequence in self.running]
        ended = {(o.request_id, o.index) for o in outputs if o.finish_reason is not None}
        self.running = [s for s in self.running if (s.request.request_id, s.index) not in ended]
        self.generation_tokens += len(outputs)
        self.computed_tokens += len(outputs)
        return outputs

    def _run(self, sequence: ToySequence) -> RequestOutput:
        prompt = bytes(t for t in sequence.request.prompt_token_ids if t < 256)
        if b"!fail" in prompt:
            request_id = sequence.request.request_id
            return RequestOutput(
                request_id=request_id, index=sequence.index, finish_reason="error", error="boom"
            )
        fresh = sequence.num_replayed == 0
        deadly = b"!die" in prompt and (fresh or b"!die-once" not in prompt)
        if deadly and len(sequence.output) - sequence.num_replayed == 2:
            os._exit(42)
        if b"!defect" in prompt:
            raise RuntimeError("a defect in step")
        output = sequence.step()
        timeout_s = sequence.request.timeout_s
        if timeout_s is not None and time.monotonic() - sequence.arrived > timeout_s:
            output.finish_reason = output.finish_reason or "deadline"
        return output

    def stats(self) -> EngineStats:
        return EngineStats(
            num_requests_running=len(self.running),
            num_requests_waiting=len(self.waiting),
            num_steps=self.num_steps,
            computed_tokens=self.computed_tokens,
            busy_s=self.busy_s,
            prompt_tokens=self.prompt_tokens,
            generation_tokens=self.generation_tokens,
            kv_cache_usage_ratio=min(1.0, len(self.running) / self.config.max_num_seqs),
            num_kv_blocks=128,
        )

    def answer(self, question: Question) -> Reply:
        """Knows no sessions, and has nothing cached."""
        match question:
            case ListSessions() | ShowSession() | PinSession():
                return Sessions([])
            case DeleteSession():
                return Deleted(is_known=False)
            case ResumeSession():
                return Resumed(is_known=False)
            case ExplainPrompt(_, prompt_token_ids):
                if b"!crash" in bytes(t for t in prompt_token_ids if t < 256):
                    raise RuntimeError("crash in answer")
                return Explanation(len(prompt_token_ids), 32, 0, 0, {}, None, "none", "nothing")

    def close(self) -> None:
        self.is_closed = True

    def info(self) -> EngineInfo:
        return EngineInfo(
            model_name="toy",
            max_model_len=self.max_model_len,
            vocab_size=VOCAB_SIZE,
            description="alphabet, no weights",
            phases_ms={"load": 1.0},
            memory_plan_bytes={"KV blocks": 1 << 20},
        )


class ToyTokenizer:
    vocab_size = VOCAB_SIZE
    bos_token_id: int | None = BOS
    eos_token_ids = frozenset({EOS})

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [BOS] * add_special_tokens + list(text.encode())

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return b"".join(self.token_bytes(t) for t in token_ids).decode(errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < 256 else b""

    def apply_chat_template(
        self,
        messages: Sequence[dict[str, object]],
        add_generation_prompt: bool = True,
        **template_kwargs: object,
    ) -> str:
        if template_kwargs.get("refuse"):
            raise ValueError("the template refuses this conversation")
        turns = "".join(f"<{m['role']}>{m['content']}" for m in messages)
        return turns + ("<assistant>" if add_generation_prompt else "")


def create_engine(config: EngineConfig) -> ToyEngine:
    """`model` is "toy", or "toy:STEP_MS"; "toy:bad" cannot be loaded, "toy:exit" dies at start,
    "toy:slow" takes two seconds to load."""
    argument = config.model.partition(":")[2] or "1"
    if argument == "bad":
        raise ValueError("toy:bad: no such model")
    if argument == "exit":
        os._exit(7)
    if argument == "slow":
        time.sleep(2.0)
        argument = "1"
    return ToyEngine(config, float(argument) / 1000)


def create_tokenizer(model: str) -> ToyTokenizer:
    return ToyTokenizer()


def continuation(prompt: str, num_tokens: int, index: int = 0) -> str:
    """What the toy model answers to a prompt."""
    last = prompt.encode()[-1]
    offset = (CYCLE.index(last) + 1 if last in CYCLE else 0) + index
    tokens = bytes(CYCLE[(offset + i) % len(CYCLE)] for i in range(num_tokens))
    return codecs.getincrementaldecoder("utf-8")("replace").decode(tokens)
