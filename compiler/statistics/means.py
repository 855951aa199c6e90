"""The mean over blocks of a figure that each block has one of."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .interval import Interval
from .special import t_quantile


def mean(blocks: Sequence[float], alpha_low: float, alpha_high: float) -> Interval:
    """The mean of one figure a block (requests a second of a closed loop, say) with its one-sided bounds, in its unit.

    Independent replications (Law and Kelton, Simulation Modeling and Analysis, 4.5 and 9.5.2): blocks are separate starts,
    so their figures are independent, and a mean over many requests is nearly normal, so Student's t with blocks - 1 degrees
    of freedom. With fewer than two blocks there are no bounds; a figure that is not finite takes those it touches.
    """
    values = np.asarray(blocks, dtype=np.float64)
    n = len(values)
    value = float(values.mean()) if n else math.nan
    if n < 2 or not math.isfinite(value):
        return Interval(value, -math.inf, math.inf, n)
    error = float(values.std(ddof=1)) / math.sqrt(n)
    low, high = (error * t_quantile(1 - alpha, n - 1) for alpha in (alpha_low, alpha_high))
    return Interval(value, value - low, value + high, n)
