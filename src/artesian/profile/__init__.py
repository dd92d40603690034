"""What a model takes on a machine: measured once, read by admission and by the simulator."""

from artesian.profile.base import Profile, ProfileError, ProfileIdentity, Share
from artesian.profile.costs import StepCosts
from artesian.profile.file import profile_path, read_profile, write_profile
from artesian.profile.identity import identify
from artesian.profile.offload import OffloadPlan, plan_offload

__all__ = [
    "OffloadPlan",
    "Profile",
    "ProfileError",
    "ProfileIdentity",
    "Share",
    "StepCosts",
    "identify",
    "plan_offload",
    "profile_path",
    "read_profile",
    "write_profile",
]
