"""Which instruction sets the kernels can use here."""

from artesian import _core


def available_isas() -> list[str]:
    """Names of the instruction sets this machine can run, weakest first."""
    return _core.available_isas()
