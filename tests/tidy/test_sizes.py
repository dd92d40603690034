"""Files, functions and lines stay small enough to read."""

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

from tests.tidy import source

MAX_FILE_LINES = 800
MAX_MEDIAN_FILE_LINES = 150
MAX_FUNCTION_LINES = 70
MAX_COLUMNS = 100
# Text that is kept as it comes: published vectors and tables of another project's format.
CODE = (".py", ".pyi", ".rs", ".js", ".css", ".html", ".sh", ".toml")
RUST_FUNCTION = re.compile(r"^(\s*)(?:pub(?:\([a-z]+\))? )?(?:const )?(?:unsafe )?fn (\w+)")


def python_functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and number of lines of each function, its docstring not counted."""
    for node in ast.walk(ast.parse(source.text(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first, num_doc_lines = node.body[0], 0
            if ast.get_docstring(node, clean=False) is not None:
                num_doc_lines = (first.end_lineno or 0) - first.lineno + 1
            yield node.name, (node.end_lineno or 0) - node.lineno + 1 - num_doc_lines


def rust_functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and number of lines of each function; formatted code closes at the same indent."""
    lines = source.text(path).split("\n")
    for start, line in enumerate(lines):
        match = RUST_FUNCTION.match(line)
        if match is None:
            continue
        for end in range(start, len(lines)):
            text = lines[end]
            is_declaration = text.startswith(match[1]) and text.endswith(";")
            if text == f"{match[1]}}}" or (end == start and text.endswith("}")):
                yield match[2], end - start + 1
                break
            if is_declaration and len(text) - len(text.lstrip()) == len(match[1]):
                break


def test_files_are_short() -> None:
    lengths = {path: source.text(path).count("\n") for path in source.files(*CODE)}
    too_long = {source.relative(p): n for p, n in lengths.items() if n > MAX_FILE_LINES}
    assert not too_long, f"split these files, the limit is {MAX_FILE_LINES} lines: {too_long}"
    median = statistics.median(n for p, n in lengths.items() if p.suffix in (".py", ".rs") and n)
    assert median <= MAX_MEDIAN_FILE_LINES


def test_functions_are_short() -> None:
    too_long = [
        f"{source.relative(path)}: {name} has {num_lines}"
        for suffix, functions in ((".py", python_functions), (".rs", rust_functions))
        for path in source.files(suffix)
        for name, num_lines in functions(path)
        if num_lines > MAX_FUNCTION_LINES
    ]
    assert not too_long, f"the limit is {MAX_FUNCTION_LINES} lines:\n" + "\n".join(too_long)


def test_rust_functions_are_found() -> None:
    path = source.ROOT / "crates" / "kernels" / "src" / "isa.rs"
    found = dict(rust_functions(path))
    assert found["name"] == 9
    assert "strongest" in found


def test_lines_are_short() -> None:
    too_long = [
        f"{source.relative(path)}:{number}"
        for path in source.files(".py", ".pyi", ".rs", ".sh")
        for number, line in enumerate(source.text(path).split("\n"), start=1)
        if len(line) > MAX_COLUMNS
    ]
    assert not too_long, f"the limit is {MAX_COLUMNS} columns:\n" + "\n".join(too_long)
