"""What a profile made here and now would hold for."""

from artesian import __version__
from artesian.config.engine import EngineConfig
from artesian.loader.base import Checkpoint
from artesian.machine import num_usable_cpus, read_cpu
from artesian.profile.base import ProfileIdentity


def identify(
    config: EngineConfig, checkpoint: Checkpoint, kv_dtype: str, isa: str
) -> ProfileIdentity:
    """The identity of a configuration on this machine.

    Args:
        kv_dtype: that `config` stands for (see `plan_kv`); isa: of the kernels that run.
    """
    return ProfileIdentity(
        model=checkpoint.name,
        fingerprint=checkpoint.fingerprint(),
        kv_dtype=kv_dtype,
        quantization=config.quantization or "none",
        isa=isa,
        cpu=read_cpu().model_name,
        num_threads=config.num_threads or num_usable_cpus(),
        version=__version__,
    )
