"""What compressing KV on disk saves, takes and changes.

    make bench-context_codecs
    make bench-context_codecs ARGS='--model path/to/model.gguf --tokens 4000'

The blocks are those of a real prompt. Errors of numbers are relative: the root of the mean square
over that of the numbers. What rounding does to answers is seen by greedy tokens behind a prefix
that came from such a disk, and by their log probabilities, beside those of exact KV.
"""

import argparse
import statistics
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

import report
from artesian import LLM, SamplingParams
from artesian._core import try_codec
from artesian.engine.factory import plan_kv
from artesian.loader import open_checkpoint
from artesian.ops.base import KvLayout
from machine import describe
from report import Row

CODECS = ("zstd", "int8")
NUM_ANSWER = 32
TEXT = Path(__file__).resolve().parents[1] / "docs" / "ARCHITECTURE.md"
console = report.make_console()


@dataclass(frozen=True)
class Answer:
    """Greedy tokens and their log probabilities, and blocks that came from disk."""

    tokens: list[int]
    logprobs: list[float]
    num_loaded: int


def answer(llm: LLM, prompt: list[int]) -> Answer:
    """The answer to a prompt."""
    params = SamplingParams(temperature=0, max_tokens=NUM_ANSWER, ignore_eos=True, logprobs=1)
    [result] = llm.generate([prompt], params)
    output = result.outputs[0]
    logprobs = [entry.chosen.logprob for entry in output.logprobs or []]
    loaded = sum(tier.loaded_blocks for tier in llm.engine.stats().context_tiers)
    return Answer(list(output.token_ids), logprobs, loaded)


def numbers(bytes_: npt.NDArray[np.uint8], dtype: str) -> npt.NDArray[np.float32]:
    """Numbers of a block."""
    if dtype == "bf16":
        return (bytes_.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return bytes_.view({"f16": np.float16, "f32": np.float32}[dtype]).astype(np.float32)


def blocks_of(llm: LLM, prompt: list[int]) -> list[npt.NDArray[np.uint8]]:
    """The blocks of a prompt that the engine has just computed."""
    arena = llm.engine.cache.allocator
    answer(llm, prompt)
    used = [
        arena.memory[start : start + arena.block_bytes].copy()
        for start in range(0, arena.num_blocks * arena.block_bytes, arena.block_bytes)
    ]
    return [block for block in used if block.any()]


def rows_of_blocks(
    codec: str, layout: KvLayout, blocks: list[npt.NDArray[np.uint8]], subject: str
) -> list[Row]:
    """Size, error and speed over all blocks."""
    shape = (
        layout.num_layers,
        layout.num_kv_heads,
        layout.head_dim,
        layout.block_size_tokens,
        layout.dtype,
        layout.summaries,
    )
    sizes, errors, there, back = [], [], [], []
    for block in blocks:
        size, decoded, encode_s, decode_s = try_codec(codec, shape, block)
        before, after = numbers(block, layout.dtype), numbers(decoded, layout.dtype)
        sizes.append(size / block.nbytes)
        errors.append(float(np.sqrt(((after - before) ** 2).mean() / (before**2).mean())))
        there.append(block.nbytes / encode_s / 1e9)
        back.append(block.nbytes / decode_s / 1e9)
    found = {
        "size": (statistics.mean(sizes), "of exact"),
        "relative error of numbers": (statistics.mean(errors), ""),
        "saving, one thread": (statistics.median(there), "GB/s"),
        "loading, one thread": (statistics.median(back), "GB/s"),
    }
    return [_row(subject, f"{codec}: {name}", *value) for name, value in found.items()]


def rows_of_answers(codec: str, model: str, prompt: list[int], exact: Answer) -> list[Row]:
    """What a prefix that comes from such a disk changes."""
    with TemporaryDirectory(prefix="artesian-bench-") as directory:
        kept = {"context_cache_dir": Path(directory), "context_cache_compression": codec}
        with LLM(model, **kept) as llm:
            answer(llm, prompt)
        with LLM(model, **kept) as llm:
            found = answer(llm, prompt)
    assert found.num_loaded == (len(prompt) - 1) // 32
    pairs = list(zip(found.tokens, exact.tokens, strict=True))
    same = next((at for at, (ours, theirs) in enumerate(pairs) if ours != theirs), NUM_ANSWER)
    logprobs = list(zip(found.logprobs, exact.logprobs, strict=True))[: max(same, 1)]
    largest = max(abs(ours - theirs) for ours, theirs in logprobs)
    subject = f"{codec}: {len(prompt)} tokens from disk"
    return [
        _row(subject, f"{codec}: equal greedy tokens of {NUM_ANSWER}", same, ""),
        _row(subject, f"{codec}: largest change of their log probabilities", largest, ""),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=2_000)
    options = parser.parse_args()
    machine = describe()
    console.print(f"{machine.cpu}, {machine.num_cpus} CPUs, load {machine.load_average}")
    with LLM(options.model) as llm:
        prompt = llm.tokenizer.encode(TEXT.read_text())[: options.tokens]
        blocks = blocks_of(llm, prompt)
        layout, _ = plan_kv(open_checkpoint(llm.engine.config.model), llm.engine.config)
        exact = answer(llm, prompt)
    subject = f"{options.model}, {len(blocks)} blocks of {blocks[0].nbytes / 1e3:.0f} kB"
    rows = []
    for codec in CODECS:
        rows += rows_of_blocks(codec, layout, blocks, subject)
        rows += rows_of_answers(codec, options.model, prompt, exact)
    report.print_table("KV on disk, compressed", rows, ["Artesian"], console)
    extra: dict[str, object] = {"model": options.model, "tokens": len(prompt)}
    console.print(f"written to {report.write('context-codecs', rows, machine, extra)}")


def _row(subject: str, metric: str, value: float, unit: str) -> Row:
    return Row(subject=subject, metric=metric, value=value, unit=unit, values={"Artesian": value})


if __name__ == "__main__":
    main()
