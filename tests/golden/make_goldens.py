"""Asks Transformers what the models should answer; writes tiny.json and real.json here.

Needs packages that the project does not: pip install torch transformers gguf safetensors
Run: python -m tests.golden.make_goldens [SMOLLM2.gguf GEMMA3.gguf]
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch  # type: ignore[import-not-found]
from transformers import AutoModelForCausalLM  # type: ignore[import-not-found]

from tests.golden import tiny_models

HERE = Path(__file__).parent
TINY_POSITIONS = (0, 7, 20, 47)
REAL_POSITIONS = (0, 3, 17, -1)
TEXT = (
    "The history of bread is older than writing. People ground wild grains between stones, "
    "mixed the flour with water and baked it on hot ashes. In the year 1859 a French chemist, "
    "Louis Pasteur, explained that yeast is alive;"
)


def greedy(model: Any, tokens: list[int], count: int) -> list[int]:
    """`count` tokens of highest logit, one after the other."""
    ids = torch.tensor([tokens])
    chosen: list[int] = []
    cache = None
    with torch.no_grad():
        for _ in range(count):
            out = model(ids, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            chosen.append(int(out.logits[0, -1].argmax()))
            ids = torch.tensor([[chosen[-1]]])
    return chosen


def answer(model: Any, tokens: list[int], positions: tuple[int, ...], step: int) -> dict[str, Any]:
    """Logits of every `step`-th token and the best 16 at some positions, and greedy tokens."""
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0].float()
    rows = []
    for position in positions:
        row = logits[position]
        top = torch.topk(row, 16)
        rows.append(
            {
                "position": position % len(tokens),
                "top_ids": top.indices.tolist(),
                "top_logits": [round(v, 5) for v in top.values.tolist()],
                "logits": [round(v, 5) for v in row[::step].tolist()],
            }
        )
    return {
        "tokens": tokens,
        "step": step,
        "rows": rows,
        "greedy": greedy(model, tokens, 32),
    }


def load(path: Path, **options: Any) -> Any:
    """The model at `path` in float32, its attention written out."""
    return AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager", **options
    ).eval()


def tiny() -> dict[str, Any]:
    """Answers of the tiny models."""
    answers = {}
    with tempfile.TemporaryDirectory() as directory:
        for name in tiny_models.CONFIGS:
            model = load(tiny_models.write(name, Path(directory)))
            answers[name] = answer(model, tiny_models.prompt(name), TINY_POSITIONS, 8)
            print(name, answers[name]["greedy"][:8])
    return answers


def real(paths: list[Path]) -> dict[str, Any]:
    """Answers of the demo models; Transformers dequantises the GGUF files to float32."""
    from artesian.loader import open_checkpoint

    answers = {}
    for path in paths:
        tokens = open_checkpoint(path).tokenizer().encode(TEXT)
        model = load(path.parent, gguf_file=path.name)
        answers[path.stem] = answer(model, tokens, REAL_POSITIONS, len(model.lm_head.weight) // 64)
        print(path.stem, answers[path.stem]["greedy"])
    return answers


def main() -> None:
    """Writes the files."""
    torch.manual_seed(0)
    (HERE / "tiny.json").write_text(json.dumps(tiny(), separators=(",", ":")) + "\n")
    if paths := [Path(argument) for argument in sys.argv[1:]]:
        (HERE / "real.json").write_text(json.dumps(real(paths), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
