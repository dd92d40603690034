"""`artesian models`: what is here, what can be fetched, what is inside."""

import dataclasses
import importlib.util
import json
import math
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from artesian.cli.options import AsJson
from artesian.doctor.base import format_bytes
from artesian.loader import ChatTemplateError, Checkpoint, open_checkpoint
from artesian.loader.demo import DEMO_MODELS

ModelName = Annotated[
    str, Parameter(help="GGUF file, Hugging Face directory, demo name, or hub id.")
]

app = App(
    name="models",
    help="List, fetch and inspect models.",
    help_epilogue="""\
Examples: artesian models list | artesian models show smollm2 |
artesian models pull HuggingFaceTB/SmolLM2-360M-Instruct""",
)


@app.command(name="list")
def list_models(*, as_json: AsJson = False) -> int:
    """List the demo models and what was downloaded from the hub."""
    rows = [*demo_rows(), *hub_rows()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    table = Table("model", "size", "where", box=None, padding=(0, 2, 0, 0))
    for row in rows:
        size = "-" if row["size_bytes"] is None else format_bytes(row["size_bytes"])
        table.add_row(row["model"], size, row["where"])
    Console(soft_wrap=True).print(table)
    return 0


@app.command
def pull(model: ModelName) -> int:
    """Download a model from the hub, so that it can be served offline."""
    checkpoint = open_checkpoint(model)
    print(f"{checkpoint.name} is here: artesian serve {model}")
    return 0


@app.command
def show(model: ModelName, *, as_json: AsJson = False) -> int:
    """Show a model's shape, tensor formats, tokenizer and chat format."""
    facts = describe(open_checkpoint(model))
    if as_json:
        print(json.dumps(facts, indent=2, default=dataclasses.asdict))
        return 0
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name, value in facts.items():
        table.add_row(
            name, value if isinstance(value, str) else json.dumps(value, default=dataclasses.asdict)
        )
    Console(soft_wrap=True, markup=False, highlight=False).print(table)
    return 0


def demo_rows() -> list[dict[str, Any]]:
    """The demo models, with their size where they are installed."""
    rows: list[dict[str, Any]] = []
    for name, demo in DEMO_MODELS.items():
        spec = importlib.util.find_spec(demo.package)
        size, where = None, f"not installed: {demo.install}"
        if spec is not None and spec.origin is not None:
            path = Path(spec.origin).parent / demo.file_name
            size = path.stat().st_size if path.is_file() else None
            where = f"Python package {demo.package}"
        rows.append({"model": name, "size_bytes": size, "where": where})
    return rows


def hub_rows() -> list[dict[str, Any]]:
    """Models in the hub's cache on this machine."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return []
    return [
        {"model": repo.repo_id, "size_bytes": repo.size_on_disk, "where": str(repo.repo_path)}
        for repo in sorted(repos, key=lambda repo: repo.repo_id)
        if repo.repo_type == "model"
    ]


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """The facts of a checkpoint, by name."""
    config = checkpoint.config
    tensors = [checkpoint.tensor(name) for name in checkpoint.tensor_names()]
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.format] += tensor.data.nbytes
    num_weights = sum(math.prod(tensor.shape) for tensor in tensors)
    tokenizer = checkpoint.tokenizer()
    message: dict[str, object] = {"role": "user", "content": "Hello"}
    try:
        prompt = tokenizer.apply_chat_template([message])
    except ChatTemplateError as error:
        prompt = f"none: {error}"
    return {
        "name": checkpoint.name,
        "fingerprint": checkpoint.fingerprint(),
        "weights": f"{num_weights:,} in {len(tensors)} tensors, {format_bytes(sizes.total())}",
        "formats": {name: format_bytes(size) for name, size in sizes.most_common()},
        **{
            field.name: value
            for field in dataclasses.fields(config)
            if (value := getattr(config, field.name)) not in (None, ())
        },
        "kv_per_token": f"{2 * config.num_layers * config.num_kv_heads * config.head_dim} values",
        "tokenizer_vocab_size": tokenizer.vocab_size,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_ids": sorted(tokenizer.eos_token_ids),
        "chat_prompt": prompt,
    }
