"""linear: x · Wᵀ + b, a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..dims import Dim
from ..graph import Array, Env, Op, OpError
from ..prims import apply_activation, check_activation
from ..reduced import reduce_to
from ..types import REDUCED, DType, TensorType


@dataclass(frozen=True)
class Linear(Op):
    """linear(x, weight[, bias][, residual]): act(x · weightᵀ + bias) + residual.

    x: [..., K] of dtype `precision`; weight: float32 [N, K], each row taken on that precision's grid (reduced.py); bias:
    float32 [N]; residual: float32 [..., N]; the result [..., N] is of dtype `out`. Sums are float32 (q8: exact integers).
    """

    bias: bool = False
    residual: bool = False
    activation: str | None = None
    """A unary primitive of prims.py such as gelu, relu, tanh; None: the identity."""
    precision: DType = "float32"
    """float32, bfloat16 or q8."""
    out: DType = "float32"
    """float32; or bfloat16, to which the sum is rounded, where `precision` is reduced."""
    mnemonic: ClassVar[str] = "linear"

    def infer(self, *operands: TensorType) -> TensorType:
        expected = 2 + self.bias + self.residual
        if len(operands) != expected:
            raise OpError(f"linear takes {expected} operands here, not {len(operands)}")
        check_activation("linear", self.activation)
        x, weight = operands[:2]
        if self.precision not in ("float32", *REDUCED):
            raise OpError(f"linear: precision is float32, bfloat16 or q8, not {self.precision!r}")
        if self.out not in ("float32",) if self.precision == "float32" else self.out not in ("float32", "bfloat16"):
            raise OpError(f"linear in {self.precision} has no result of {self.out!r}")
        if x.dtype != self.precision or any(o.dtype != "float32" for o in operands[1:]):
            given = ", ".join(str(o) for o in operands)
            raise OpError(f"linear takes x in {self.precision} and other operands in float32, not {given}")
        if weight.rank != 2 or x.rank < 1 or x.shape[-1] != weight.shape[1]:
            raise OpError(f"linear: x {x} does not fit weight {weight} (the last dimension of each must be equal)")
        out = TensorType(self.out, (*x.shape[:-1], weight.shape[0]))
        if self.bias and operands[2].shape != (weight.shape[0],):
            raise OpError(f"linear: bias {operands[2]} does not fit weight {weight}")
        if self.residual and operands[-1].shape != out.shape:
            raise OpError(f"linear: residual {operands[-1]} does not fit the result {out}")
        return out

    def reference(self, env: Env, *operands: Array) -> Array:
        x, weight = operands[:2]
        out = np.matmul(x, reduce_to(self.precision, weight).T)
        if self.bias:
            out = out + operands[2]
        if self.activation is not None:
            out = apply_activation(self.activation, out)
        return reduce_to(self.out, out + operands[-1] if self.residual else out)

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return out.elements * (operands[1].shape[1] * 2)
