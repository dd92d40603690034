"""What comes ahead, what stays, who has how much room: policies without I/O and clock."""

from artesian.files.policies.base import Eviction
from artesian.files.policies.budget import PrefetchBudget
from artesian.files.policies.eager import Eager
from artesian.files.policies.fill import Fill
from artesian.files.policies.folder_ahead import FolderAhead
from artesian.files.policies.ghosts import Ghosts
from artesian.files.policies.idle import idle_limit_s
from artesian.files.policies.keep_residents import KeepResidents
from artesian.files.policies.lru import Lru
from artesian.files.policies.origin_cost import OriginCost
from artesian.files.policies.read_ahead import ReadAhead
from artesian.files.policies.rescan import is_reread
from artesian.files.policies.s3fifo import S3Fifo
from artesian.files.policies.siblings import Siblings
from artesian.files.policies.space import Demand, SpaceSharing

__all__ = [
    "Demand",
    "Eager",
    "Eviction",
    "Fill",
    "FolderAhead",
    "Ghosts",
    "KeepResidents",
    "Lru",
    "OriginCost",
    "PrefetchBudget",
    "ReadAhead",
    "S3Fifo",
    "Siblings",
    "SpaceSharing",
    "idle_limit_s",
    "is_reread",
]
