"""Writes docs/reference from the code; `--check` only says whether it is up to date."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from artesian.api.app import create_api
from artesian.cli.app import create_app
from artesian.config.settings import MODELS, OTHER_VARIABLES, settings_of
from artesian.metrics.serving import COUNTERS, GAUGES, ServingMetrics

DIRECTORY = Path(__file__).resolve().parents[1] / "docs" / "reference"
NOTE = "<!-- Written by `make docs` from the code; changes here are lost. -->"


def cli_page() -> str:
    """All commands and their options."""
    text = create_app().generate_docs(heading_level=1)
    return text.replace("\\[default", "[default")


def settings_page() -> str:
    """All settings with their names in the three sources."""
    lines = [
        "# Settings",
        "",
        "Each setting can be given as a flag, as an environment variable, or in a YAML file "
        "(`--config FILE` or `ARTESIAN_CONFIG`). A flag wins over the environment, the environment "
        "over the file, the file over the default. Sizes may have a suffix: `k m g t` are powers "
        "of 1000, `K M G T` and `KiB MiB GiB TiB` powers of 1024.",
    ]
    for model in MODELS:
        lines += ["", f"## {model.__name__.removesuffix('Config')}", "", model.__doc__ or "", ""]
        lines += [
            "| flag | variable | key in a file | default | meaning |",
            "|---|---|---|---|---|",
        ]
        for setting in settings_of(model):
            flag = f"`{setting.flag}`" if not setting.info.is_required() else "first argument"
            default = f"`{setting.default_text}`" if setting.default_text else ""
            lines.append(
                f"| {flag} | `{setting.env}` | `{setting.name}` | {default} "
                f"| {setting.info.description} |"
            )
    lines += ["", "## Other variables", "", "| variable | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in OTHER_VARIABLES.items()]
    return "\n".join(lines)


def metrics_page() -> str:
    """All metrics of `/metrics`."""
    metrics = ServingMetrics(lambda: dict.fromkeys([*GAUGES, *COUNTERS], 0.0))
    lines = [
        "# Metrics",
        "",
        "`/metrics` answers in Prometheus's text format. With `--vllm-metrics` each metric is "
        "there a second time, under vLLM's prefix `vllm:`.",
        "",
        "| name | type | meaning |",
        "|---|---|---|",
    ]
    for metric in sorted(metrics.registry.collect(), key=lambda metric: metric.name):
        suffix = "_total" if metric.type == "counter" else ""
        lines.append(f"| `{metric.name}{suffix}` | {metric.type} | {metric.documentation} |")
    return "\n".join(lines)


def api_page() -> str:
    """All addresses and the fields of their requests."""
    description = create_api().openapi()
    schemas = description["components"]["schemas"]
    lines = ["# HTTP API", "", "The same as OpenAPI: `/openapi.json`."]
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            lines += ["", f"## {method.upper()} {path}", "", operation.get("description", "")]
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body is None:
                continue
            schema = body["schema"]
            if "$ref" in schema:
                schema = schemas[schema["$ref"].rsplit("/", 1)[-1]]
            lines += ["", "| field | type | meaning |", "|---|---|---|"]
            lines += fields(schema)
    return "\n".join(lines)


def fields(schema: dict[str, Any]) -> Iterator[str]:
    """A row for each field of a request."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        meaning = field.get("description", "")
        if name in required:
            meaning = f"required; {meaning}" if meaning else "required"
        yield f"| `{name}` | {type_name(field)} | {meaning} |"


def type_name(field: dict[str, Any]) -> str:
    """The type of a field in a few words."""
    if "$ref" in field:
        return str(field["$ref"].rsplit("/", 1)[-1])
    if "anyOf" in field:
        names = (type_name(choice) for choice in field["anyOf"])
        return " or ".join(dict.fromkeys(name for name in names if name != "null"))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {type_name(field.get('items', {}))}"
    return str(field.get("type", "any"))


def main() -> int:
    pages = {
        "api.md": api_page(),
        "cli.md": cli_page(),
        "metrics.md": metrics_page(),
        "settings.md": settings_page(),
    }
    is_stale = False
    for name, text in pages.items():
        path = DIRECTORY / name
        content = f"{NOTE}\n\n{text.strip()}\n"
        if path.exists() and path.read_text(encoding="utf-8") == content:
            continue
        is_stale = True
        if "--check" in sys.argv:
            print(f"docs/reference/{name} is out of date: make docs")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            print(f"wrote docs/reference/{name}")
    return int(is_stale and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
