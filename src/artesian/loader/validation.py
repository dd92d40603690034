"""Checks that a checkpoint has every tensor that its model reads, in the right shape."""

from artesian.loader.base import Checkpoint, CheckpointError
from artesian.models.base import ModelConfig

_MAX_SIZE = 1 << 24


def check_config(config: ModelConfig, where: str) -> None:
    """Raises `CheckpointError` for sizes that no model has."""
    sizes = {
        "vocabulary size": config.vocab_size,
        "hidden size": config.hidden_size,
        "intermediate size": config.intermediate_size,
        "number of layers": config.num_layers,
        "number of heads": config.num_heads,
        "number of KV heads": config.num_kv_heads,
        "head dimension": config.head_dim,
        "context length": config.max_model_len,
    }
    for what, size in sizes.items():
        if not 1 <= size <= _MAX_SIZE:
            raise CheckpointError(f"{where}: the {what} is {size}, it must be 1 to {_MAX_SIZE}")
    if config.num_heads % config.num_kv_heads:
        raise CheckpointError(
            f"{where}: {config.num_heads} heads cannot share {config.num_kv_heads} KV heads; "
            "the first must be a multiple of the second"
        )
    if config.head_dim % 2:
        raise CheckpointError(f"{where}: the head dimension is {config.head_dim}, it must be even")
    if not 0 < config.norm_eps < 1 or not 0 < config.rope_theta < float("inf"):
        raise CheckpointError(
            f"{where}: norm epsilon {config.norm_eps} or rope base {config.rope_theta} "
            "is out of range"
        )


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Canonical name -> shape of every tensor that the model needs."""
    hidden, width = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    layer: dict[str, tuple[int, ...]] = {
        "attn_norm": (hidden,),
        "q": (queries, hidden),
        "k": (keys, hidden),
        "v": (keys, hidden),
        "o": (hidden, queries),
        "mlp_norm": (hidden,),
        "gate": (width, hidden),
        "up": (width, hidden),
        "down": (hidden, width),
    }
    if config.architecture == "qwen2":
        layer |= {"q_bias": (queries,), "k_bias": (keys,), "v_bias": (keys,)}
    if config.architecture in ("qwen3", "gemma3"):
        layer |= {"q_norm": (config.head_dim,), "k_norm": (config.head_dim,)}
    if config.architecture == "gemma3":
        layer |= {"post_attn_norm": (hidden,), "post_mlp_norm": (hidden,)}
    shapes: dict[str, tuple[int, ...]] = {"embed": (config.vocab_size, hidden), "norm": (hidden,)}
    if not config.tie_embeddings:
        shapes["head"] = (config.vocab_size, hidden)
    for index in range(config.num_layers):
        shapes |= {f"layers.{index}.{name}": shape for name, shape in layer.items()}
    return shapes


def check_tensors(checkpoint: Checkpoint, where: str) -> None:
    """Raises `CheckpointError` for a tensor that is missing or not shaped as the config says."""
    present = set(checkpoint.tensor_names())
    for name, shape in expected_shapes(checkpoint.config).items():
        if name not in present:
            raise CheckpointError(
                f"{where}: the tensor {name!r} is missing; the file is incomplete, or not a "
                f"{checkpoint.config.architecture} model"
            )
        tensor = checkpoint.tensor(name)
        if tensor.shape != shape:
            raise CheckpointError(
                f"{where}: the tensor {name!r} has shape {tensor.shape}, the config says {shape}"
            )
        if len(shape) == 1 and tensor.format not in ("f32", "f16", "bf16"):
            raise CheckpointError(
                f"{where}: the tensor {name!r} is {tensor.format}; vectors must be f32, f16 or bf16"
            )
