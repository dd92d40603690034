"""Turns config models into options of a command."""

import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from artesian.config.settings import CONFIG_ENV, ENV_PREFIX, Setting, Settings, settings_of
from artesian.config.sizes import Size

AsJson = Annotated[
    bool, Parameter(name="--json", negative=(), help="Print JSON instead of a table.")
]
"""The `--json` switch of every command that prints a table."""

Url = Annotated[
    str | None,
    Parameter(help="Ask the server at this URL, such as http://localhost:8000, instead."),
]
ApiKey = Annotated[str | None, Parameter(name="--api-key", help="Key for the server at --url.")]

GROUP_ORDER = 10
_METAVARS: dict[Any, str] = {int: "N", float: "N", Size: "SIZE"}
EPILOGUE = (
    f"Every setting can also come from the environment ({ENV_PREFIX} and its name in capitals) "
    "or from a YAML file (--config); flags win over the environment, that over the file."
)


def with_settings(*models: type[BaseModel]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Gives a command, whose first parameter is a `Settings`, one option for each setting.

    Values stay text here: flag, environment and file are validated by the same model, when the
    command loads it. A required setting becomes the command's first argument.
    """

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        hints = typing.get_type_hints(command, include_extras=True)
        _, *own = [
            parameter.replace(annotation=hints[parameter.name])
            for parameter in inspect.signature(command).parameters.values()
        ]
        settings = [_option(setting, model) for model in models for setting in settings_of(model)]

        def run(*args: object, **kwargs: Any) -> int:
            values = signature.bind(*args, **kwargs).arguments
            file = values.pop("config", None)
            flags = {option.name: values.pop(option.name, None) for option in settings}
            return command(Settings(flags=flags, file=file), **values)

        parameters = [*settings, *own, _config_option()]
        parameters.sort(key=lambda p: p.kind)
        signature = inspect.Signature(parameters, return_annotation=int)
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__name__ = command.__name__
        run.__doc__ = command.__doc__
        return run

    return decorate


def _option(setting: Setting, model: type[BaseModel]) -> inspect.Parameter:
    """One setting as a parameter; a required one is positional."""
    is_required = setting.info.is_required()
    kind = _kind(setting.info)
    is_parsed_here = kind is bool or typing.get_origin(kind) is typing.Literal
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD if is_required else inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            (kind if is_parsed_here else str) | None,
            Parameter(
                help=setting.help,
                group=Group.create_default_parameters() if is_required else _group(model),
                show_default=False,
                metavar=None if is_parsed_here else _METAVARS.get(kind, "TEXT"),
            ),
        ],
    )


def _kind(info: FieldInfo) -> Any:
    """The type of a setting without `None`."""
    annotation = info.annotation
    if any(isinstance(item, BeforeValidator) for item in info.metadata):
        return Size
    inner = [t for t in typing.get_args(annotation) if t is not type(None)]
    if type(None) in typing.get_args(annotation) and len(inner) == 1:
        return inner[0]
    return annotation


def _group(model: type[BaseModel]) -> Group:
    """The help section of a config model."""
    return Group(model.__name__.removesuffix("Config") + " settings", sort_key=GROUP_ORDER)


def _config_option() -> inspect.Parameter:
    """`--config`, which names the file the other settings may come from."""
    help_line = f"YAML file with settings; default: the one {CONFIG_ENV} names."
    return inspect.Parameter(
        "config",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[Path | None, Parameter(help=help_line, show_default=False)],
    )
