"""What is known about a model's sublayers: how little they change their input, and what they cost.

The file of `artesian calibrate` holds one. It is bound to the model by its fingerprint.
"""

import math
from pathlib import Path

import msgspec

FORMAT = 1
_MOST_BYTES = 1 << 20
Strings = tuple[str, ...]
Floats = tuple[float, ...]


class CalibrationError(ValueError):
    """A file is no calibration, or one of another model; the message says what to do."""


class StepCosts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that a row of a step takes, by what is computed.

    Attributes:
        rest_s: all but the sublayers: mostly the vocabulary.
        ffn_s: one FFN. attention_s: one attention over no context.
        attention_token_s: the same for each token of context that a layer sees.
    """

    rest_s: float
    ffn_s: float
    attention_s: float
    attention_token_s: float


class Loss(msgspec.Struct, frozen=True):
    """Mean extra loss on prompts that the calibration did not see, in nats a token, with so many
    sublayers left out in order of similarity."""

    num_skipped: int
    nats: float


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes:
    format: of the file. model, fingerprint: what it holds for.
    similarities: mean cos(input, output) of each sublayer over all tokens of the prompts
        (AdaSkip's equation 1). scales: mean |output| / |input| (equation 4).
    spreads: standard deviation of the prompts' own mean similarities.
    windows: tokens that each layer's attention sees; 0: all.
    prompt_hashes: SHA-256 of each prompt's token ids (int32, little-endian). num_tokens: of all.
    losses: what leaving out costs, ascending. decode, prompt: what a row costs here.
    """

    format: int = FORMAT
    model: str
    fingerprint: str
    similarities: Floats
    scales: Floats
    spreads: Floats
    windows: tuple[int, ...]
    prompt_hashes: Strings
    num_tokens: int
    losses: tuple[Loss, ...] = ()
    decode: StepCosts | None = None
    prompt: StepCosts | None = None

    @property
    def num_layers(self) -> int:
        """Half as many as there are sublayers."""
        return len(self.similarities) // 2


def encode_calibration(calibration: Calibration) -> bytes:
    """The content of a file."""
    return msgspec.json.format(msgspec.json.encode(calibration), indent=1) + b"\n"


def read_calibration(path: Path, fingerprint: str | None = None) -> Calibration:
    """The calibration of a file.

    Args:
        fingerprint: of the model that it must hold for; None: of whatever it is.

    Raises:
        OSError: the file cannot be read.
        CalibrationError: it is no calibration, damaged, or another model's.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise CalibrationError(f"{path} is too large for a calibration")
    try:
        calibration = msgspec.json.decode(path.read_bytes(), type=Calibration)
    except msgspec.MsgspecError as error:
        raise CalibrationError(
            f"{path} is no calibration: {error}; make one with artesian calibrate"
        ) from None
    _check(calibration, path)
    if fingerprint is not None and calibration.fingerprint != fingerprint:
        raise CalibrationError(
            f"{path} is of {calibration.model} ({calibration.fingerprint[:12]}), not of this model "
            f"({fingerprint[:12]}): run artesian calibrate for it"
        )
    return calibration


def _check(calibration: Calibration, path: Path) -> None:
    if calibration.format != FORMAT:
        raise CalibrationError(
            f"{path} has format {calibration.format}, this version reads {FORMAT}: run artesian "
            "calibrate again"
        )
    count = len(calibration.similarities)
    lengths = (len(calibration.scales), len(calibration.spreads), 2 * len(calibration.windows))
    if not count or any(length != count for length in lengths):
        raise CalibrationError(f"{path} has {count} similarities, but {lengths} of what belongs")
    costs = [c for c in (calibration.decode, calibration.prompt) if c is not None]
    times = [getattr(cost, name) for cost in costs for name in cost.__struct_fields__]
    if not all(-1.001 <= x <= 1.001 for x in calibration.similarities):
        raise CalibrationError(f"{path} has similarities that are no cosines")
    if not all(math.isfinite(x) and x > 0 for x in calibration.scales):
        raise CalibrationError(f"{path} has scales that are not above 0")
    if not all(math.isfinite(x) and x >= 0 for x in [*times, *calibration.spreads]):
        raise CalibrationError(f"{path} has times or spreads below 0")
    if any(w < 0 for w in calibration.windows):
        raise CalibrationError(f"{path} has windows below 0")
    counts = [loss.num_skipped for loss in calibration.losses]
    if counts != sorted(set(counts)) or not all(math.isfinite(x.nats) for x in calibration.losses):
        raise CalibrationError(f"{path} has losses that are out of order or no numbers")
