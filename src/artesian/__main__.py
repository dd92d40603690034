"""`python -m artesian` is `artesian`."""

from artesian.cli import main

main()
