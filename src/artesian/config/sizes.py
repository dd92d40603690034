"""The type of settings that are sizes."""

from typing import Annotated

from pydantic import BeforeValidator

from artesian.machine.sizes import parse_size

Size = Annotated[int, BeforeValidator(parse_size)]
"""An integer that may also be written with a suffix."""
