"""What settings of a model say to a server that has it already."""

from typing import Any

from pydantic import ValidationError

from artesian.config import EngineConfig, Settings, SettingsError

_PREFIX = "attention_"
_NUMBERS = ("epsilon", "budget_tokens", "dense_layers", "min_context_tokens")


def request_fields(settings: Settings) -> dict[str, Any]:
    """Fields of a request's body: how its answer is computed, as far as that was said.

    Raises `SettingsError` for values that cannot be.
    """
    given = {name: settings.get(name) for name in ("attention", *(_PREFIX + n for n in _NUMBERS))}
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    fields: dict[str, Any] = {}
    if values:
        if "attention" not in values:
            raise SettingsError(f"{next(iter(values))} says nothing without attention")
        try:
            config = EngineConfig(model="of the server", **values)
        except ValidationError as error:
            raise SettingsError(error.errors()[0]["msg"]) from None
        numbers = {n: getattr(config, _PREFIX + n) for n in _NUMBERS if _PREFIX + n in values}
        fields["attention"] = {"selector": config.attention, **numbers}
    num_skipped = settings.get("num_skipped")
    if num_skipped is not None:
        if not num_skipped.isdecimal():
            raise SettingsError(f"num_skipped must be a whole number, got {num_skipped!r}")
        fields["num_skipped"] = int(num_skipped)
    return fields
