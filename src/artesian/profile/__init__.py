"""What a model takes on a machine: measured once, read by admission and by the simulator."""

from artesian.profile.base import Profile, ProfileError, ProfileIdentity, Share
from artesian.profile.costs import StepCosts
from artesian.profile.file import profile_path, read_profile, write_profile

__all__ = [
    "Profile",
    "ProfileError",
    "ProfileIdentity",
    "Share",
    "StepCosts",
    "profile_path",
    "read_profile",
    "write_profile",
]
