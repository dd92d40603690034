"""Artesian serves large language models from one shared pool of memory."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from artesian.engine.async_llm import AsyncLLM
    from artesian.engine.base import SamplingParams
    from artesian.engine.llm import LLM
    from artesian.pool.aio import AsyncPool
    from artesian.pool.pool import Pool

__version__ = "0.1.0"
__all__ = ["LLM", "AsyncLLM", "AsyncPool", "Pool", "SamplingParams"]

_HOMES = {
    "LLM": "artesian.engine.llm",
    "AsyncLLM": "artesian.engine.async_llm",
    "AsyncPool": "artesian.pool.aio",
    "Pool": "artesian.pool.pool",
    "SamplingParams": "artesian.engine.base",
}


def __getattr__(name: str) -> Any:
    """Imports the public names on first use, so that `import artesian` stays instant."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'artesian' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
