"""Where the value of a setting comes from: flag, then environment, then file, then default."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from artesian.config.engine import EngineConfig
from artesian.config.server import ServerConfig

MODELS: tuple[type[BaseModel], ...] = (EngineConfig, ServerConfig)
"""Everything that can be set; a file may hold settings that a command does not need."""

ENV_PREFIX = "ARTESIAN_"
CONFIG_ENV = f"{ENV_PREFIX}CONFIG"
OTHER_VARIABLES = {
    CONFIG_ENV: "YAML file with settings",
    f"{ENV_PREFIX}CACHE_DIR": "where unpacked models and the like are kept; "
    "default: artesian in $XDG_CACHE_HOME or ~/.cache",
    f"{ENV_PREFIX}FILES_DIR": "where files of other stores are kept; "
    "default: artesian/files in $XDG_CACHE_HOME or ~/.cache",
}
"""Variables that are no settings, with what they are for."""

M = TypeVar("M", bound=BaseModel)


class SettingsError(ValueError):
    """A setting is wrong; the message names its source and value, `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Setting:
    """One field of a config model, with its names in the three sources."""

    name: str
    info: FieldInfo

    @property
    def flag(self) -> str:
        """The flag on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def env(self) -> str:
        """The environment variable."""
        return ENV_PREFIX + self.name.upper()

    @property
    def default_text(self) -> str:
        """The default as text; empty when the description tells it or a value is required."""
        default = self.info.default
        if default is None or default is PydanticUndefined:
            return ""
        return str(default).lower() if isinstance(default, bool) else str(default)

    @property
    def help(self) -> str:
        """The description as a sentence, with the default behind it."""
        description = self.info.description or ""
        is_word = description.partition(" ")[0].isalpha()
        text = (description[:1].upper() + description[1:] if is_word else description) + "."
        return f"{text} [default: {self.default_text}]" if self.default_text else text


def settings_of(model: type[BaseModel]) -> list[Setting]:
    """The settings of one config model, in the order of its fields."""
    return [Setting(name, info) for name, info in model.model_fields.items()]


def read_file(path: Path) -> dict[str, object]:
    """Settings from a YAML file, by field name; dashes in keys count as underscores.

    Raises `SettingsError` when it cannot be read, is no mapping, or has a key nobody knows.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"cannot read the config file {path}: {reason}") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"the config file {path} is not valid YAML: {reason}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(
            f"the config file {path} holds a {type(content).__name__}, not settings",
            "write one setting a line, such as max_model_len: 32k",
        )
    known = {setting.name for model in MODELS for setting in settings_of(model)}
    values: dict[str, object] = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "see docs/reference/settings.md"
            raise SettingsError(f"the config file {path} has an unknown setting: {key}", hint)
        values[name] = value
    return values


def unknown_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Names of `ARTESIAN_*` variables that set nothing, most likely misspelt."""
    known = {
        setting.env for model in MODELS for setting in settings_of(model)
    } | OTHER_VARIABLES.keys()
    return sorted(name for name in environ if name.startswith(ENV_PREFIX) and name not in known)


@dataclass(frozen=True)
class Settings:
    """The sources of one command, from which `load` makes config models.

    Attributes:
        flags: values given on the command line, by field name; None where absent.
        file: YAML file; None reads the one that `ARTESIAN_CONFIG` names, if any.
    """

    flags: Mapping[str, object] = field(default_factory=dict)
    file: Path | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def load(self, model: type[M]) -> M:
        """A config model with every value from its first source that has one.

        Raises `SettingsError` naming the source of the first value that is wrong.
        """
        values, sources = self._collect(model)
        try:
            return model.model_validate(values)
        except ValidationError as error:
            raise self._explain(model, error, sources) from None

    def get(self, name: str) -> str | None:
        """One setting from its first source, unchecked, for when nothing else is needed."""
        _, from_file = self._read_file()
        variable = self.environ.get(ENV_PREFIX + name.upper())
        value = self.flags.get(name) or variable or from_file.get(name)
        return None if value is None else str(value)

    def _read_file(self) -> tuple[Path | None, dict[str, object]]:
        """The file that is used, if any, and its settings."""
        path = self.file
        if path is None and self.environ.get(CONFIG_ENV):
            path = Path(self.environ[CONFIG_ENV])
        return path, read_file(path) if path else {}

    def _collect(self, model: type[BaseModel]) -> tuple[dict[str, object], dict[str, str]]:
        """Values by field name, and the name of each one's source."""
        path, from_file = self._read_file()
        values: dict[str, object] = {}
        sources: dict[str, str] = {}
        for setting in settings_of(model):
            name = setting.name
            if self.flags.get(name) is not None:
                values[name], sources[name] = self.flags[name], setting.flag
            elif self.environ.get(setting.env):
                values[name], sources[name] = self.environ[setting.env], setting.env
            elif name in from_file:
                values[name], sources[name] = from_file[name], f"{name} in {path}"
        return values, sources

    def _explain(
        self, model: type[BaseModel], error: ValidationError, sources: Mapping[str, str]
    ) -> SettingsError:
        """The first problem in one line."""
        problem: Any = error.errors()[0]
        message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
        if not problem["loc"]:
            return SettingsError(message)
        name = str(problem["loc"][0])
        setting = next(s for s in settings_of(model) if s.name == name)
        if problem["type"] == "missing":
            return SettingsError(
                f"no {name} is given: {setting.info.description}",
                f"write it behind the command, or set {setting.env} or {name} in a config file",
            )
        return SettingsError(
            f"{sources.get(name, name)}: {problem['input']!r} {message}", setting.help
        )
