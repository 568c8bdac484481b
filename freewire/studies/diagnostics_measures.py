# SPDX-License-Identifier: MIT
"""The arithmetic of a measurement, on plain numbers: the parabola along a step, and the gradient's noise.

References:
    Schneider, Dangel, Hennig: Cockpit: a practical debugging tool for the training of deep neural networks, NeurIPS
    2021 (the normalised step length).
    McCandlish, Kaplan, Amodei et al.: An empirical model of large-batch training, 2018 (the noise scale, appendix A).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from freewire.graph.arguments import FloatArray

__all__ = ["NO_STEP", "Noise", "Parabola", "fit_parabola", "noise_scale"]

_SMOOTHING = 0.9  # of the noise, per measurement


class Parabola(NamedTuple):
    """A parabola through loss and slope at both ends of a step; see `fit_parabola`."""

    step_length: float | None
    misfit: float | None


NO_STEP = Parabola(-1.0, None)


def fit_parabola(loss: float, slope: float, loss_after: float, slope_after: float) -> Parabola:
    """Fit a parabola to loss and slope at both ends of a step, and say where on it the step ended.

    Four numbers determine the three coefficients by least squares, where the step is the unit of length. This moves
    both slopes by a fifth of ``r = loss_after - loss - (slope + slope_after) / 2``, which is 0 on a parabola.

    Args:
        loss: The loss where the step starts.
        slope: The derivative of the loss along the step there; the step is the unit of length.
        loss_after: The loss where the step ends.
        slope_after: The derivative there.

    Returns:
        ``step_length``: -1 for no step, 0 at the minimum, 1 at the point on the other side where the loss is as at the
        start. Its magnitude is the distance to the minimum at the end of the step over that at its start, so the loss
        has risen if it is above 1. Below -1 the step started uphill, as it may with momentum. Where the parabola has no
        minimum it is -1 if the loss still falls at the end, as in the paper, and else None. None also without finite
        numbers. ``misfit``: r over the larger slope's magnitude, not negative; None if both slopes are 0.

    Example:
        >>> fit_parabola(loss=1.0, slope=-2.0, loss_after=0.0, slope_after=0.0)  # (t - 1)**2
        Parabola(step_length=0.0, misfit=0.0)
        >>> fit_parabola(loss=1.0, slope=-8.0, loss_after=9.0, slope_after=24.0).step_length  # (4 t - 1)**2
        3.0
    """
    if not all(map(math.isfinite, (loss, slope, loss_after, slope_after))):
        return Parabola(None, None)
    largest = max(abs(slope), abs(slope_after))
    if largest == 0:
        return NO_STEP
    residual = loss_after - loss - (slope + slope_after) / 2
    first, last = slope + residual / 5, slope_after + residual / 5
    misfit = abs(residual) / largest
    if last > first:  # a minimum
        return Parabola(None if first == 0 else 0.0 - last / first, misfit)
    return Parabola(-1.0 if last <= 0 else None, misfit)


def noise_scale(variance: float, signal: float) -> float | None:
    """Variance over squared norm: the batch size, in samples, at which noise and gradient are alike in size.

    None where the gradient cannot be seen through the noise, so that its estimated squared norm is not positive.
    """
    return variance / signal if signal > 0 and math.isfinite(variance) else None


class Noise:
    """The gradient's noise by level, from two parts of each batch, smoothed over measurements.

    Only the ratio of averages is useful, so these are kept, and lowered by the same factor while they start.

    Attributes:
        variance: Average variance of a sample's gradient, summed over a level's parameters, per level; None before the
            first measurement.
        signal: Average squared norm of the true gradient, per level; negative where the noise is large.
    """

    def __init__(self) -> None:
        self.variance: FloatArray | None = None
        self.signal: FloatArray | None = None

    def add(
        self, mean_squares: ArrayLike, difference_squares: ArrayLike, sizes: tuple[int, int]
    ) -> tuple[float, float]:
        """Add a measurement; one with a NaN or an infinity leaves the averages alone.

        Args:
            mean_squares: Squared norm of the whole batch's gradient, per level.
            difference_squares: Squared norm of the difference of the parts' mean gradients, per level.
            sizes: Samples in each part.

        Returns:
            This measurement's unbiased estimates, over all levels: variance and squared norm.
        """
        variance = np.asarray(difference_squares) / (1 / sizes[0] + 1 / sizes[1])
        signal = np.asarray(mean_squares) - variance / sum(sizes)
        totals = float(variance.sum()), float(signal.sum())
        if math.isfinite(totals[0] + totals[1]):
            new = 1 - _SMOOTHING
            if self.variance is None or self.signal is None:
                self.variance, self.signal = new * variance, new * signal
            else:
                self.variance = _SMOOTHING * self.variance + new * variance
                self.signal = _SMOOTHING * self.signal + new * signal
        return totals

    def scales(self, levels: int) -> tuple[float | None, list[float | None]]:
        """The noise scale of all parameters, and that of each level, from the averages; None where there is none."""
        if self.variance is None or self.signal is None:
            return None, [None] * levels
        of_levels = map(noise_scale, self.variance.tolist(), self.signal.tolist())
        return noise_scale(float(self.variance.sum()), float(self.signal.sum())), list(of_levels)
