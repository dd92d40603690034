"""The Rust kernels. Only `artesian.ops.native` and thin wrappers import this module."""

def available_isas() -> list[str]:
    """Names of the instruction sets this machine can run, weakest first."""
