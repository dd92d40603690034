"""Jobs that read files, a cache with the policies of the real one, and an origin, all simulated."""

from artesian.sim.files.bound import furthest_next_use
from artesian.sim.files.cache import AdvisedCache, FileCache
from artesian.sim.files.loads import FileRead, Job, TraceFormatError, hash_of, read_trace
from artesian.sim.files.run import FilesOutcome, JobOutcome, Simulation

__all__ = [
    "AdvisedCache",
    "FileCache",
    "FileRead",
    "FilesOutcome",
    "Job",
    "JobOutcome",
    "Simulation",
    "TraceFormatError",
    "furthest_next_use",
    "hash_of",
    "read_trace",
]
