"""What a largest value seen in n requests or rows says of those not seen."""

from __future__ import annotations

import math


def share_excluded(n: int, confidence: float) -> float:
    """The least share of requests over the largest seen that n independent ones exclude: 1 - (1 - confidence)^(1/n).

    Were a larger share over it, one of n would have been, with probability `confidence` (Wilks 1941, a one-sided tolerance
    limit). 1 for n = 0. 3/n, nearly, at 95 %.
    """
    return -math.expm1(math.log1p(-confidence) / n) if n > 0 else 1.0


def requests_to_exclude(share: float, confidence: float) -> int:
    """The least n with share_excluded(n, confidence) <= share, for 0 < share < 1."""
    n = max(1, math.ceil(math.log1p(-confidence) / math.log1p(-share)))
    while n > 1 and share_excluded(n - 1, confidence) <= share:
        n -= 1
    while share_excluded(n, confidence) > share:
        n += 1
    return n
