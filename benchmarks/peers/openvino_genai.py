"""OpenVINO GenAI through its continuous batching pipeline, stepped by hand.

Stepping shows exactly when every request has its first token, so decode is timed without prefill.
The KV cache grows as needed (its default) and holds no prefixes.
"""

import time
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as og

from peers.protocol import Adapter, DecodeTime, EngineNote, serve


class OpenVinoGenAi(Adapter):
    """A directory made by optimum's export, INT8 weights per output channel."""

    def load(
        self, model: str, num_threads: int, max_num_seqs: int, max_model_len: int
    ) -> EngineNote:
        scheduler = og.SchedulerConfig()
        scheduler.max_num_batched_tokens = max(max_model_len, 2048)
        scheduler.max_num_seqs = max_num_seqs
        scheduler.dynamic_split_fuse = False
        scheduler.enable_prefix_caching = False
        properties = {"INFERENCE_NUM_THREADS": num_threads}
        self._pipeline = og.ContinuousBatchingPipeline(model, scheduler, "CPU", properties)
        self._next_id = 0
        self._directory = model
        self._num_threads = num_threads
        core = ov.Core()
        precision = core.get_property("CPU", "INFERENCE_PRECISION_HINT").to_string()
        kv = core.get_property("CPU", "KV_CACHE_PRECISION").to_string()
        return {
            "name": "OpenVINO GenAI",
            "version": og.__version__,
            "weights": "INT8 per output channel",
            "compute": f"{precision}, linears in INT8 where the CPU has VNNI",
            "kv": kv,
        }

    def prefill_s(self, prompt: list[int]) -> float:
        start = time.perf_counter()
        self._step_to([self._add(prompt, 1)], [0], 1)
        return time.perf_counter() - start

    def decode(self, prompts: list[list[int]], num_tokens: int) -> DecodeTime:
        start = time.perf_counter()
        handles = [self._add(prompt, num_tokens + 1) for prompt in prompts]
        counts = [0] * len(handles)
        self._step_to(handles, counts, 1)
        decode_start = time.perf_counter()
        num_before = sum(counts)
        self._step_to(handles, counts, num_tokens + 1)
        end = time.perf_counter()
        return {
            "prefill_s": decode_start - start,
            "decode_s": end - decode_start,
            "num_tokens": sum(counts) - num_before,
        }

    def nll(self, windows: list[list[int]]) -> list[float]:
        """The exported model as a plain stateful network, which gives logits of all positions."""
        core = ov.Core()
        properties = {"INFERENCE_NUM_THREADS": self._num_threads}
        network = core.compile_model(f"{self._directory}/openvino_model.xml", "CPU", properties)
        request = network.create_infer_request()
        losses = []
        for window in windows:
            request.reset_state()
            ids = np.array([window], dtype=np.int64)
            inputs = {
                "input_ids": ids,
                "attention_mask": np.ones_like(ids),
                "position_ids": np.arange(ids.size, dtype=np.int64)[None],
                "beam_idx": np.zeros(1, dtype=np.int32),
            }
            logits = request.infer(inputs)["logits"][0, :-1].astype(np.float64)
            logits -= logits.max(axis=1, keepdims=True)
            chosen = logits[np.arange(ids.size - 1), ids[0, 1:]]
            losses.append(float((np.log(np.exp(logits).sum(axis=1)) - chosen).mean()))
        return losses

    def _add(self, prompt: list[int], max_tokens: int) -> Any:
        config = og.GenerationConfig()
        config.max_new_tokens = max_tokens
        config.ignore_eos = True
        config.do_sample = False
        config.apply_chat_template = False
        ids = ov.Tensor(np.array([prompt], dtype=np.int64))
        self._next_id += 1
        return self._pipeline.add_request(self._next_id, ids, config)

    def _step_to(self, handles: list[Any], counts: list[int], num_tokens: int) -> None:
        """Steps until every handle has given `num_tokens` tokens, counting them in `counts`."""
        while min(counts) < num_tokens:
            self._pipeline.step()
            for row, handle in enumerate(handles):
                while handle.can_read():
                    for output in handle.read().values():
                        counts[row] += len(output.generated_ids)


if __name__ == "__main__":
    serve(OpenVinoGenAi())
