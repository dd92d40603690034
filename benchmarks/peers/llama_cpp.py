"""llama.cpp through its own C interface (llama-cpp-python), without its server in the way.

A batch of requests is one `llama_decode` call a step with one token of each, which is the best
llama.cpp can do: its server adds scheduling and sampling on top. Weights that the build has
fast forms of are repacked by llama.cpp itself while loading.
"""

import ctypes
import time

import llama_cpp as lc
import numpy as np
import numpy.typing as npt

from peers.protocol import Adapter, DecodeTime, EngineNote, serve

BATCH_TOKENS = 2048


class LlamaCpp(Adapter):
    """Every call clears the context's KV first; the model stays loaded."""

    def __init__(self) -> None:
        lc.llama_log_set(_quiet, ctypes.c_void_p(0))
        lc.llama_backend_init()

    def load(
        self, model: str, num_threads: int, max_num_seqs: int, max_model_len: int
    ) -> EngineNote:
        params = lc.llama_model_default_params()
        params.n_gpu_layers = 0
        self._model = lc.llama_model_load_from_file(model.encode(), params)
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {model}")
        self._vocab_size = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(self._model))
        context = lc.llama_context_default_params()
        context.n_ctx = max_num_seqs * max_model_len
        context.n_seq_max = max_num_seqs
        context.n_batch = BATCH_TOKENS
        context.n_threads = context.n_threads_batch = num_threads
        self._ctx = lc.llama_init_from_model(self._model, context)
        if not self._ctx:
            raise RuntimeError(f"llama.cpp cannot make a context of {context.n_ctx} tokens")
        self._batch = lc.llama_batch_init(BATCH_TOKENS, 0, 1)
        name = ctypes.create_string_buffer(256)
        lc.llama_model_desc(self._model, name, len(name))
        return {
            "name": "llama.cpp",
            "version": lc.__version__,
            "weights": name.value.decode(),
            "compute": "INT8: activations in blocks of 32 or 256",
            "kv": "f16, flash attention auto",
        }

    def prefill_s(self, prompt: list[int]) -> float:
        self._clear()
        start = time.perf_counter()
        self._prefill(prompt, 0)
        return time.perf_counter() - start

    def decode(self, prompts: list[list[int]], num_tokens: int) -> DecodeTime:
        self._clear()
        start = time.perf_counter()
        tokens = [self._prefill(prompt, seq) for seq, prompt in enumerate(prompts)]
        decode_start = time.perf_counter()
        for step in range(num_tokens):
            for row, (token, prompt) in enumerate(zip(tokens, prompts, strict=True)):
                self._put(row, token, len(prompt) + step, row, wants_logits=True)
            self._run(len(prompts))
            tokens = [int(self._logits(row).argmax()) for row in range(len(prompts))]
        end = time.perf_counter()
        return {
            "prefill_s": decode_start - start,
            "decode_s": end - decode_start,
            "num_tokens": num_tokens * len(prompts),
        }

    def nll(self, windows: list[list[int]]) -> list[float]:
        return [self._window_nll(window) for window in windows]

    def tokenize(self, text: str) -> list[int]:
        data = text.encode()
        room = (lc.llama_token * (len(data) + 2))()
        vocab = lc.llama_model_get_vocab(self._model)
        num_tokens = lc.llama_tokenize(vocab, data, len(data), room, len(room), True, False)
        return list(room[:num_tokens])

    def _window_nll(self, window: list[int]) -> float:
        self._clear()
        total = 0.0
        for first in range(0, len(window), BATCH_TOKENS):
            chunk = window[first : first + BATCH_TOKENS]
            for row, token in enumerate(chunk):
                self._put(row, token, first + row, 0, wants_logits=True)
            self._run(len(chunk))
            for row, target in enumerate(window[first + 1 : first + 1 + len(chunk)]):
                logits = self._logits(row).astype(np.float64)
                shifted = logits - logits.max()
                total += float(np.log(np.exp(shifted).sum()) - shifted[target])
        return total / (len(window) - 1)

    def _clear(self) -> None:
        lc.llama_memory_clear(lc.llama_get_memory(self._ctx), False)

    def _prefill(self, prompt: list[int], seq: int) -> int:
        for first in range(0, len(prompt), BATCH_TOKENS):
            chunk = prompt[first : first + BATCH_TOKENS]
            for row, token in enumerate(chunk):
                last = first + row == len(prompt) - 1
                self._put(row, token, first + row, seq, wants_logits=last)
            self._run(len(chunk))
        return int(self._logits(len(chunk) - 1).argmax())

    def _put(self, row: int, token: int, pos: int, seq: int, *, wants_logits: bool) -> None:
        self._batch.token[row] = token
        self._batch.pos[row] = pos
        self._batch.n_seq_id[row] = 1
        self._batch.seq_id[row][0] = seq
        self._batch.logits[row] = wants_logits

    def _run(self, num_rows: int) -> None:
        self._batch.n_tokens = num_rows
        code = lc.llama_decode(self._ctx, self._batch)
        if code != 0:
            raise RuntimeError(f"llama_decode of {num_rows} rows returned {code}")

    def _logits(self, row: int) -> npt.NDArray[np.float32]:
        pointer = lc.llama_get_logits_ith(self._ctx, row)
        return np.ctypeslib.as_array(pointer, (self._vocab_size,))


@lc.llama_log_callback
def _quiet(level: int, text: bytes, _user_data: object) -> None:
    del level, text


if __name__ == "__main__":
    serve(LlamaCpp())
