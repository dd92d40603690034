"""Renders chat templates as Transformers does, in Jinja's sandbox."""

import json
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from artesian.loader.base import CheckpointError

_MAX_TEMPLATE_BYTES = 1 << 20
_MAX_PROMPT_CHARACTERS = 1 << 24


class ChatTemplateError(ValueError):
    """A conversation cannot be turned into a prompt; the message says why."""


def read_template(template: str | None) -> str | None:
    """The text of `--chat-template`: a path to a file, or the template itself.

    Raises `CheckpointError` when it looks like a path and cannot be read.
    """
    if template is None or "{" in template:
        return template
    path = Path(template)
    try:
        if path.stat().st_size > _MAX_TEMPLATE_BYTES:
            raise CheckpointError(f"{path} is too large for a chat template (limit 1 MiB)")
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"the chat template {template!r} is neither a readable file nor Jinja: {error}"
        ) from error


def render(
    template: str | None,
    messages: Sequence[dict[str, object]],
    add_generation_prompt: bool,
    variables: dict[str, object],
) -> str:
    """The prompt for `messages`. Raises `ChatTemplateError`."""
    if template is None:
        raise ChatTemplateError(
            "this model has no chat template (it may be a base model): use /v1/completions, "
            "or give a template with --chat-template FILE"
        )
    from jinja2 import TemplateError

    values: dict[str, object] = {"tools": None, "documents": None, **variables}
    values |= {"messages": list(messages), "add_generation_prompt": add_generation_prompt}
    parts: list[str] = []
    num_characters = 0
    try:
        for part in _compile(template).generate(**values):
            parts.append(part)
            num_characters += len(part)
            if num_characters > _MAX_PROMPT_CHARACTERS:
                raise ChatTemplateError(
                    f"the prompt is longer than {_MAX_PROMPT_CHARACTERS} characters; shorten it"
                )
    except (TemplateError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise ChatTemplateError(
            f"the model's chat template cannot render these messages: {error}"
        ) from error
    except RecursionError as error:
        raise ChatTemplateError("the messages are nested too deeply for the template") from error
    return "".join(parts)


@lru_cache(maxsize=8)
def _compile(source: str) -> Any:
    # Imported here: a worker that gets ready-made prompts never needs Jinja.
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    if len(source) > _MAX_TEMPLATE_BYTES:
        raise ChatTemplateError("the chat template is larger than 1 MiB")

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    def to_json(value: object, indent: int | None = None, ensure_ascii: bool = False) -> str:
        return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda layout: datetime.now().strftime(layout)
    return environment.from_string(source)
