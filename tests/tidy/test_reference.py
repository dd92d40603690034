"""The generated pages of docs/reference say what the code says."""

import subprocess
import sys

from tests.tidy import source


def test_reference_is_up_to_date() -> None:
    """Every flag, variable, metric and address is documented; `make docs` renews the pages."""
    check = subprocess.run(
        [sys.executable, source.ROOT / "scripts" / "generate_reference.py", "--check"],
        capture_output=True,
        text=True,
    )
    assert check.returncode == 0, check.stdout + check.stderr
