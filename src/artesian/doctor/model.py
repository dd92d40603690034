"""Whether a model can be read and fits into memory."""

from artesian.config import EngineConfig
from artesian.doctor.base import Finding
from artesian.engine.factory import plan_kv
from artesian.kvcache.memory_plan import MemoryPlanError
from artesian.loader import CheckpointError, open_checkpoint


def check_model(config: EngineConfig) -> list[Finding]:
    """Opens the model, without downloading anything, and plans its memory."""
    try:
        checkpoint = open_checkpoint(config.model, offline=True)
        checkpoint.tokenizer()
    except CheckpointError as error:
        return [Finding("model", "error", str(error), "artesian models list shows what is here")]
    shape = checkpoint.config
    detail = f"{checkpoint.name}: {shape.architecture}, {shape.num_layers} layers"
    findings = [Finding("model", "ok", detail)]
    try:
        _, plan = plan_kv(checkpoint, config)
    except MemoryPlanError as error:
        findings.append(Finding("memory plan", "error", str(error), "see artesian serve --help"))
    else:
        findings.append(Finding("memory plan", "ok", str(plan)))
    return findings
