"""`artesian version`: what to put in a report."""

import platform

from cyclopts import App

from artesian import __version__

app = App(name="version")


@app.default
def version() -> int:
    """Print versions."""
    from artesian.ops.isa import available_isas

    print(f"artesian {__version__}")
    print(f"python {platform.python_version()}, {platform.system()} {platform.machine()}")
    print(f"kernels {', '.join(available_isas())}")
    return 0
