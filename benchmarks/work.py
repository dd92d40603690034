"""How many bytes and multiply-adds a model's tokens cost, read from its GGUF file.

This is the work that no exact engine can avoid when it keeps the file's weights as they are:
every weight read once a step, every linear once a token, every visible key and value once.
"""

from dataclasses import dataclass
from pathlib import Path

import gguf


@dataclass(frozen=True, slots=True)
class Work:
    """Per-token costs of one model file.

    Attributes:
        weight_bytes: all tensors that a decoded token reads, as stored: of a separate input
            embedding only a row is read, so it does not count.
        layer_macs: multiply-adds of the layers' linears for one token, without attention.
        head_macs: of the vocabulary head for one token.
        kv_bytes_per_token: keys and values of one token in one layer, in f16.
        attention_width: query heads times their dimension.
        windows: for each layer how many tokens it sees, None for all.
    """

    weight_bytes: int
    layer_macs: int
    head_macs: int
    kv_bytes_per_token: int
    attention_width: int
    windows: tuple[int | None, ...]

    def decode_bytes(self, context: int, batch: int = 1) -> int:
        """Bytes that one step of `batch` sequences of `context` tokens reads."""
        visible = sum(min(context, window or context) for window in self.windows)
        return self.weight_bytes + batch * visible * self.kv_bytes_per_token

    def prefill_macs(self, num_tokens: int) -> tuple[int, int]:
        """Multiply-adds of a prompt with one row of logits: of the linears, of attention."""
        pairs = sum(_visible_pairs(num_tokens, window) for window in self.windows)
        linear = num_tokens * self.layer_macs + self.head_macs
        return linear, 2 * self.attention_width * pairs

    def decode_macs(self, context: int, batch: int) -> tuple[int, int]:
        """Multiply-adds of one step of `batch` sequences: of the linears, of attention."""
        visible = sum(min(context, window or context) for window in self.windows)
        linear = self.layer_macs + self.head_macs
        return batch * linear, batch * 2 * self.attention_width * visible


def read_work(path: Path) -> Work:
    """The work of a dense model's file. Raises `KeyError` when a size is missing in it."""
    reader = gguf.GGUFReader(path)
    arch = _value(reader, "general.architecture")
    num_layers = int(_value(reader, f"{arch}.block_count"))
    num_heads = int(_value(reader, f"{arch}.attention.head_count"))
    num_kv_heads = int(_value(reader, f"{arch}.attention.head_count_kv"))
    width = int(_value(reader, f"{arch}.embedding_length"))
    head_dim = int(_value(reader, f"{arch}.attention.key_length", width // num_heads))
    window = int(_value(reader, f"{arch}.attention.sliding_window", 0)) or None
    sizes = {tensor.name: tensor for tensor in reader.tensors}
    tied = "output.weight" not in sizes
    head = sizes["token_embd.weight" if tied else "output.weight"]
    linears = [t for n, t in sizes.items() if n.startswith("blk.") and len(t.shape) == 2]
    return Work(
        weight_bytes=sum(
            int(t.n_bytes) for n, t in sizes.items() if tied or n != "token_embd.weight"
        ),
        layer_macs=sum(int(t.n_elements) for t in linears),
        head_macs=int(head.n_elements),
        kv_bytes_per_token=2 * num_kv_heads * head_dim * 2,
        attention_width=num_heads * head_dim,
        windows=tuple(_window(arch, layer, window) for layer in range(num_layers)),
    )


def _window(arch: str, layer: int, window: int | None) -> int | None:
    """Gemma 3 attends locally in five of six layers."""
    return None if arch == "gemma3" and (layer + 1) % 6 == 0 else window


def _visible_pairs(num_tokens: int, window: int | None) -> int:
    """Pairs of a token and one it sees, over a whole prompt."""
    seen = min(num_tokens, window or num_tokens)
    return seen * (seen + 1) // 2 + (num_tokens - seen) * seen


def _value(reader: gguf.GGUFReader, key: str, default: int | None = None) -> str:
    field = reader.get_field(key)
    if field is None:
        if default is None:
            raise KeyError(f"{key} is missing in the GGUF file")
        return str(default)
    return str(field.contents())
