"""Options that several commands of `artesian pool` have."""

from typing import Annotated

from cyclopts import Parameter

PoolName = Annotated[str, Parameter(help="Name of the pool, or shm://NAME.")]
Namespace = Annotated[str, Parameter(name=("--namespace", "-n"), help="The key space in the pool.")]
