"""Which sublayers are left out."""

from hashlib import blake2b

import msgspec


class SkipSet(msgspec.Struct, frozen=True):
    """Sublayers whose output is taken to be their input times a factor.

    Sublayers are numbered along the model: 2 * layer is the attention of a layer, 2 * layer + 1 its
    FFN, each with its norms and its residual.

    Attributes:
        sublayers: their numbers, ascending.
        scales: the factor of each (AdaSkip's equation 4: the mean of |output| / |input|).
    """

    sublayers: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()

    @property
    def identity(self) -> str:
        """Names the set where it changes numbers, as in the names of KV blocks; "" for none."""
        if not self.sublayers:
            return ""
        pairs = zip(self.sublayers, self.scales, strict=True)
        text = " ".join(f"{number}:{scale:.9g}" for number, scale in pairs)
        return blake2b(text.encode(), digest_size=12).hexdigest()
