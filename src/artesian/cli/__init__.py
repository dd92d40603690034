"""The command line: one file for each verb; options come from `artesian.config`."""

import sys


def main() -> None:
    """Runs `artesian` with the arguments of this process."""
    from artesian.cli.app import run

    sys.exit(run(sys.argv[1:]))


__all__ = ["main"]
