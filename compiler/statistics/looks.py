"""How many requests and blocks a look at the evidence has, and what share of alpha it may spend.

A claim that is not proved at one look is looked at again with more blocks added to all the old ones. Each look could err, so
each is taken at its share of alpha, and the shares of all looks sum to less than 1 (Bonferroni): a build may look as often
as it likes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .special import normal_quantile, t_quantile

BLOCKS = 20
"""Blocks that each look adds. With fewer, Student's t and the estimate of the spread are dear: 2,000 independent requests in
eight blocks prove a margin of 20 % seven times of ten, in twenty blocks nine times."""
WARM_UP = 100
"""Requests of each block that are sent before the recorded ones, so that the queue is filled as it will be. At 95 % and
p99 that is enough at every load tried. The p50 of a queue at 80 % load, just over its bound, comes out met in up to 7.7 % of
builds, since the queue is still filling (6 % with a warm-up of 300), and the p95 of one at 50 % load in 5.8 %."""
FIRST, LATER = 0.7, 0.2
"""Shares of alpha: the first look's, where most claims are decided, and that of all others. What is left is kept for what
the spread does not see: few bunches, of very different sizes."""


@dataclass(frozen=True)
class Look:
    """What there is at one look, warm-up aside: `requests` in `blocks`, of which the last BLOCKS, of `length` requests each,
    are new."""

    requests: int
    blocks: int
    length: int


def share_of_alpha(look: int) -> float:
    """The share of alpha that look 1, 2, 3, ... may spend: 0.7, then 0.2 / (look (look - 1)), 0.9 in all."""
    if look < 1:
        raise ValueError(f"looks are counted from 1, and this is {look}")
    return FIRST if look == 1 else LATER / (look * (look - 1))


def requests_at(look: int, q: float, confidence: float) -> Look:
    """What look 1, 2, 3, ... at a q-quantile has. Each look has twice the requests of the one before, the new ones in longer
    blocks, in which the start counts for less.

    The first look has about twenty requests later than the true quantile, at least 1,000 in all, more at more confidence. At
    95 % these are 1,000 (p50, p90, p95), 2,000 (p99) and 20,000 (p99.9).

    What a true p99 20 % under its bound takes to be met at 95 %, in nine builds of ten or more (tests/stats/test_level.py;
    service exponential or lognormal with sigma 1, starts that differ by 5 %):

        independent              2,000, with different starts 4,000
        AR(1), phi 0.5 and 0.9   8,000 and 32,000
        a queue at 30 % load     16,000 and 128,000
        a queue at 50 % load     64,000 and 256,000
        a queue at 80 % load     512,000 and 1,024,000

    It is a busy queue that takes so many: its late requests come in bunches, and what counts is the number of bunches.
    """
    share_of_alpha(look)
    scale = (_reach(confidence) / _reach(0.95)) ** 2
    length = math.ceil(max(50.0, scale / (1 - q)) - 1e-6)
    return Look(BLOCKS * length * 2 ** (look - 1), BLOCKS * look, length * 2 ** max(0, look - 2))


def requests_to_prove(q: float, confidence: float) -> int:
    """The least requests which, none of them late, give "met" at the first look, where blocks do not differ more than
    independent requests do. At 95 %: 6 (p50), 74 (p95), 375 (p99) and 3,763 (p99.9)."""
    alpha = (1 - confidence) * share_of_alpha(1)
    shrink = (normal_quantile(1 - alpha) / t_quantile(1 - alpha, BLOCKS - 1)) ** 2
    return math.ceil(math.log(alpha) / math.log(q) / shrink)


def _reach(confidence: float) -> float:
    """Standard errors between a value and its bound that let nine of ten first looks say "met"."""
    return normal_quantile(1 - (1 - confidence) * FIRST) + normal_quantile(0.9)
