"""How close answers are to float32 torch on the same inputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .cases import Case
from .models import artifacts


def wanted(case: Case) -> NDArray[np.float32]:
    """The outputs of float32 torch for the case's inputs."""
    return np.load(artifacts(case.model) / f"{case.shape}.npy")


def exactness(case: Case, got: NDArray[np.float32]) -> float:
    """What a floor is compared with: the least cosine of any row; for the tabular network the largest error, negated."""
    want = wanted(case)
    if got.shape != want.shape:
        return -np.inf
    if case.model == "mlp":
        return -float(np.abs(got.astype(np.float64) - want).max())
    return float(cosines(got, want).min())


def cosines(got: NDArray[np.float32], want: NDArray[np.float32]) -> NDArray[np.float64]:
    """The cosine of each row of two [rows, features], in float64; all 0 where the shapes differ."""
    a, b = got.astype(np.float64), want.astype(np.float64)
    if a.shape != b.shape:
        return np.zeros(max(1, len(b)))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1) / np.where(norms == 0, 1, norms)
