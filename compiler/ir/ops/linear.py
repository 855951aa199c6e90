"""linear: x · Wᵀ + b, a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..dims import Dim
from ..graph import Array, Env, Op, OpError
from ..prims import apply_activation, check_activation
from ..types import TensorType


@dataclass(frozen=True)
class Linear(Op):
    """linear(x, weight[, bias][, residual]): act(x · weightᵀ + bias) + residual.

    x: float32 [..., K]; weight: float32 [N, K]; bias: float32 [N]; residual: as the result [..., N].
    """

    bias: bool = False
    residual: bool = False
    activation: str | None = None
    """A unary primitive of prims.py such as gelu, relu, tanh; None: the identity."""
    mnemonic: ClassVar[str] = "linear"

    def infer(self, *operands: TensorType) -> TensorType:
        expected = 2 + self.bias + self.residual
        if len(operands) != expected:
            raise OpError(f"linear takes {expected} operands here, not {len(operands)}")
        check_activation("linear", self.activation)
        x, weight = operands[:2]
        if any(o.dtype != "float32" for o in operands):
            raise OpError(f"linear takes float32 operands, not {', '.join(str(o) for o in operands)}")
        if weight.rank != 2 or x.rank < 1 or x.shape[-1] != weight.shape[1]:
            raise OpError(f"linear: x {x} does not fit weight {weight} (the last dimension of each must be equal)")
        out = TensorType("float32", (*x.shape[:-1], weight.shape[0]))
        if self.bias and operands[2].shape != (weight.shape[0],):
            raise OpError(f"linear: bias {operands[2]} does not fit weight {weight}")
        if self.residual and operands[-1].shape != out.shape:
            raise OpError(f"linear: residual {operands[-1]} does not fit the result {out}")
        return out

    def reference(self, env: Env, *operands: Array) -> Array:
        x, weight = operands[:2]
        out = np.matmul(x, weight.T)
        if self.bias:
            out = out + operands[2]
        if self.activation is not None:
            out = apply_activation(self.activation, out)
        return out + operands[-1] if self.residual else out

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return out.elements * (operands[1].shape[1] * 2)
