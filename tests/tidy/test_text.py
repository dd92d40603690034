"""The repository's text speaks of the project alone, and its pins carry versions only."""

import re

from tests.tidy import source

TEXT = (".md", ".py", ".pyi", ".rs", ".toml", ".txt", ".sh", ".yaml", ".js", ".html", ".css", "")
# Paths of one machine, and download addresses that another reader's index would not share.
FORBIDDEN = (
    re.compile(r"(?<![\w.])/(?:work|home|root|Users)/"),
    re.compile(r"(?:files\.pythonhosted|pypi)\.org/(?:packages|simple)"),
    re.compile(r"--(?:extra-)?index-url|--find-links|--hash="),
)
PIN = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+]+")


def test_no_machine_paths_or_download_addresses() -> None:
    this = "tests/tidy/test_text.py"
    found = [
        f"{source.relative(path)}:{number}: {match[0]}"
        for path in source.files(*TEXT)
        if source.relative(path) != this and path.name != "Cargo.lock"
        for number, line in enumerate(source.text(path).split("\n"), start=1)
        for pattern in FORBIDDEN
        if (match := pattern.search(line))
    ]
    assert not found, "\n".join(found)


def test_constraints_are_plain_versions() -> None:
    lines = source.text(source.ROOT / "constraints.txt").split("\n")
    wrong = [line for line in lines if line and line[0] != "#" and not PIN.fullmatch(line)]
    assert not wrong


def test_every_requirement_is_pinned() -> None:
    import tomllib

    project = tomllib.loads(source.text(source.ROOT / "pyproject.toml"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"], "maturin"]
    pins = source.text(source.ROOT / "constraints.txt").lower().replace("_", "-")
    names = {re.split(r"[<>=\[;]", line)[0].lower().replace("_", "-") for line in wanted}
    missing = {name for name in names if f"\n{name}==" not in pins}
    assert not missing, f"renew constraints.txt: {missing}"


def test_files_end_with_one_newline() -> None:
    wrong = [
        source.relative(path)
        for path in source.files(*TEXT)
        if (text := source.text(path)) and (not text.endswith("\n") or text.endswith("\n\n"))
    ]
    assert not wrong
