"""Prints the requirements of pyproject.toml, one a line: the base ones, or those of an extra."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
for extra in sys.argv[1:]:
    print("\n".join(project["optional-dependencies"][extra]))
if len(sys.argv) == 1:
    print("\n".join(project["dependencies"]))
