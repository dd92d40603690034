"""What a starting server says."""

import contextlib
import sys
from typing import TextIO

from artesian import __version__
from artesian.config import ServerConfig
from artesian.engine.base import EngineInfo

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def starting(model: str, url: str, stream: TextIO = sys.stderr) -> None:
    """Before the model is there."""
    say(f"Artesian {__version__}: {model} is loading, {url} answers in a moment", stream)


def ready(
    info: EngineInfo,
    config: ServerConfig,
    url: str,
    seconds: float,
    stream: TextIO = sys.stderr,
) -> None:
    """When requests can come: the model, where its memory and the time went, and the address."""
    phases = ", ".join(f"{name} {ms / 1000:.2f} s" for name, ms in info.phases_ms.items())
    memory = ", ".join(f"{name} {size(n)}" for name, n in info.memory_plan_bytes.items())
    lines = [
        (
            "model",
            f"{config.served_model_name or info.model_name}, {info.description}".rstrip(", "),
        ),
        ("context", f"{info.max_model_len} tokens"),
        ("memory", memory),
        ("started", f"in {seconds:.2f} s" + (f" ({phases})" if phases else "")),
        ("page", f"{url}/" if config.ui else ""),
        ("API", f"{url}/v1" + ("" if config.api_key is None else " (with a key)")),
    ]
    for name, text in lines:
        if text:
            say(f"  {name:<8} {text}", stream)


def say(text: str, stream: TextIO = sys.stderr) -> None:
    """Prints a line. A server whose log is on a full disk goes on without it."""
    with contextlib.suppress(OSError):
        print(text, file=stream, flush=True)


def size(num_bytes: int) -> str:
    """A size with the unit that makes it short."""
    amount, unit = float(num_bytes), 0
    while amount >= 1024 and unit < len(UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.0f} {UNITS[unit]}" if unit == 0 else f"{amount:.1f} {UNITS[unit]}"
