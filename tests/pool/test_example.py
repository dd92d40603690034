import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "shared_cache.py"


def test_the_second_program_finds_what_the_first_worked_out(name: str) -> None:
    source = EXAMPLE.read_text(encoding="utf-8")
    assert "shm://example" in source
    source = source.replace("shm://example", f"shm://{name}").replace("sleep(0.05)", "sleep(0)")
    for num_known in (0, 50):
        run = subprocess.run(
            [sys.executable, "-c", source], capture_output=True, text=True, check=True
        )
        assert run.stdout == f"the sum is 40425; {num_known} of 50 numbers were there already\n"
