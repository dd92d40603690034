"""Artesian itself, in one process, with its default settings."""

import time
from itertools import count
from typing import Any, ClassVar

from artesian import LLM, SamplingParams, __version__
from artesian.engine.base import Request
from peers.protocol import Adapter, DecodeTime, EngineNote, serve

# Requests must still run when the last of them has its first token, so that decode is steady.
SLACK_TOKENS = 64


class ArtesianEngine(Adapter):
    """Steps the engine by hand, as its worker does, to see when every token came.

    Attributes:
        settings: of the engine, besides sizes.
    """

    settings: ClassVar[dict[str, Any]] = {}

    def load(
        self, model: str, num_threads: int, max_num_seqs: int, max_model_len: int
    ) -> EngineNote:
        self._llm = LLM(
            model,
            num_threads=num_threads,
            max_num_seqs=max_num_seqs,
            max_model_len=max_model_len,
            **self.settings,
        )
        self._ids = (f"bench-{number}" for number in count())
        info = self._llm.engine.info()
        return {
            "name": "Artesian",
            "version": __version__,
            "weights": "as in the file",
            "compute": info.description,
            "kv": info.description.partition("KV in ")[2].partition(",")[0],
        }

    def prefill_s(self, prompt: list[int]) -> float:
        start = time.perf_counter()
        self._add(prompt, 1)
        while self._llm.engine.has_work():
            self._llm.engine.step()
        return time.perf_counter() - start

    def decode(self, prompts: list[list[int]], num_tokens: int) -> DecodeTime:
        engine = self._llm.engine
        start = time.perf_counter()
        waiting = {self._add(prompt, num_tokens + SLACK_TOKENS) for prompt in prompts}
        running = list(waiting)
        while waiting:
            waiting -= {output.request_id for output in engine.step() if output.token_ids}
        decode_start = time.perf_counter()
        num_done = 0
        while num_done < num_tokens * len(prompts):
            num_done += sum(len(output.token_ids) for output in engine.step())
        end = time.perf_counter()
        for request_id in running:
            engine.abort(request_id)
        while engine.has_work():
            engine.step()
        return {
            "prefill_s": decode_start - start,
            "decode_s": end - decode_start,
            "num_tokens": num_done,
        }

    def nll(self, windows: list[list[int]]) -> list[float]:
        params = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
        losses = []
        for window in windows:
            found = self._llm.generate([window], params)[0].prompt_logprobs
            if found is None:
                raise RuntimeError("the engine gave no prompt_logprobs")
            chosen = [entry.chosen.logprob for entry in found if entry is not None]
            losses.append(-sum(chosen) / len(chosen))
        return losses

    def tokenize(self, text: str) -> list[int]:
        return self._llm.tokenizer.encode(text)

    def _add(self, prompt: list[int], max_tokens: int) -> str:
        request_id = next(self._ids)
        sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True)
        self._llm.engine.add_request(
            Request(request_id=request_id, prompt_token_ids=prompt, sampling=sampling)
        )
        return request_id


if __name__ == "__main__":
    serve(ArtesianEngine())
