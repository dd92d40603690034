"""The choices that AdaSkip is compared with: all leave out whole layers."""

from artesian.skip.base import SkipSet
from artesian.skip.calibration import Calibration
from artesian.skip.policies.base import check_count, whole_layers


class EarlyExit:
    """The last layers: the hidden state goes to the vocabulary early."""

    def choose(self, calibration: Calibration, count: int) -> SkipSet:
        """See `Selection.choose`."""
        num_layers = calibration.num_layers
        check_count(count, 2 * num_layers)
        return whole_layers(range(num_layers - count // 2, num_layers))


class SkipDecode:
    """The lower layers behind the first one; the upper ones are always computed.

    Reconstructed from its description (arXiv:2307.02628): there, tokens further on leave out more;
    here all leave out the same number, as in AdaSkip's comparison.
    """

    def choose(self, calibration: Calibration, count: int) -> SkipSet:
        """See `Selection.choose`."""
        check_count(count, 2 * calibration.num_layers - 2)
        return whole_layers(range(1, 1 + count // 2))


class UnifiedSkipping:
    """Layers at equal distances, the first and the last ones computed (arXiv:2404.06954)."""

    def choose(self, calibration: Calibration, count: int) -> SkipSet:
        """See `Selection.choose`."""
        inner, num = calibration.num_layers - 2, count // 2
        check_count(count, 2 * inner)
        return whole_layers(1 + (2 * i + 1) * inner // (2 * num) for i in range(num))


class LeastInfluence:
    """The layers that change their input least (ShortGPT's block influence, arXiv:2403.03853).

    A layer's similarity is taken to be the product of its sublayers', which were measured one by
    one; the first layer is always computed.
    """

    def choose(self, calibration: Calibration, count: int) -> SkipSet:
        """See `Selection.choose`."""
        check_count(count, 2 * calibration.num_layers - 2)
        similarity = calibration.similarities
        both = {
            layer: similarity[2 * layer] * similarity[2 * layer + 1]
            for layer in range(1, calibration.num_layers)
        }
        order = sorted(both, key=lambda layer: (-both[layer], layer))
        return whole_layers(order[: count // 2])
