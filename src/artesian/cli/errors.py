"""How the command line says that something is wrong."""

import sys


def print_error(message: str, hint: str = "") -> None:
    """Prints one line that says what is wrong and, if there is one, a line that says what to do."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    sys.stdout.flush()
    console.print("error:", style="bold red", end=" ")
    console.print(message)
    if hint:
        console.print("hint:", style="bold cyan", end=" ")
        console.print(hint)
