"""recurrence: a recurrent layer in one direction, a whole (LSTM: Hochreiter and Schmidhuber 1997, with forget gates; GRU: Cho
et al. 2014 as cuDNN and torch define it; Elman's layer)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..dims import Dim
from ..graph import Array, Env, Op, OpError
from ..prims import apply_activation
from ..shapes import check_count, check_dtype, check_shape
from ..types import TensorType

GATES = {"lstm": 4, "gru": 3, "tanh": 1, "relu": 1}
"""Vectors of `hidden` numbers that a step computes, by kind."""


@dataclass(frozen=True)
class Recurrence(Op):
    """recurrence(x, weight[, bias][, hidden0][, cell0]): h of every step of a layer whose part from the input is x.

    x: float32 [B, T, G * H], each step's input times the input weights, biases included; weight: float32 [G * H, H]; bias:
    float32 [H], gru only; hidden0 and cell0 (lstm): float32 [B, H], the states before the first step, zeros without; the
    result is [B, T, H], with `cells` (lstm) [B, T, 2 * H], h and then c. With a = x[t] + h · weightᵀ in G parts of H:

        lstm   i, f, g, o = a; c = σ(f) c + σ(i) tanh(g); h = σ(o) tanh(c)
        gru    r, z, n, where n has its parts added as tanh(x_n + σ(r) (h · weight_nᵀ + bias)); h = n + σ(z) (h - n)
        tanh   h = tanh(a)
        relu   h = relu(a)

    `reverse` takes the steps from the last to the first; result t is still that of step t.
    """

    kind: str
    """lstm, gru, tanh or relu."""
    reverse: bool = False
    bias: bool = False
    state: bool = False
    cells: bool = False
    mnemonic: ClassVar[str] = "recurrence"

    @property
    def operands_taken(self) -> int:
        """How many operands there are with these attributes."""
        return 2 + self.bias + self.state * (2 if self.kind == "lstm" else 1)

    def infer(self, *operands: TensorType) -> TensorType:
        if self.kind not in GATES:
            raise OpError(f"recurrence: no kind is called {self.kind!r}; known: {', '.join(GATES)}")
        if self.bias and self.kind != "gru":
            raise OpError(f"recurrence: {self.kind} has its bias in x, only gru takes one")
        if self.cells and self.kind != "lstm":
            raise OpError(f"recurrence: {self.kind} has no cells, only lstm")
        check_count("recurrence", operands, self.operands_taken)
        for operand in operands:
            check_dtype("recurrence", "each operand", operand, ("float32",))
        x, weight = operands[:2]
        if weight.rank != 2 or not isinstance(weight.shape[1], int) or weight.shape[1] < 1:
            raise OpError(f"recurrence: weight must be [gates * hidden, hidden] with fixed extents, not {weight}")
        hidden = weight.shape[1]
        check_shape("recurrence", "weight", weight, (GATES[self.kind] * hidden, hidden))
        if x.rank != 3:
            raise OpError(f"recurrence: x must be [batch, steps, gates * hidden], not {x}")
        check_shape("recurrence", "x", x, (*x.shape[:2], GATES[self.kind] * hidden))
        if self.bias:
            check_shape("recurrence", "bias", operands[2], (hidden,))
        for state in operands[2 + self.bias :]:
            check_shape("recurrence", "a first state", state, (x.shape[0], hidden))
        return TensorType("float32", (*x.shape[:2], (2 if self.cells else 1) * hidden))

    def reference(self, env: Env, *operands: Array) -> Array:
        x, weight = operands[:2]
        hidden = weight.shape[1]
        rest = operands[2:]
        bias = rest[0] if self.bias else x.dtype.type(0)
        h = rest[self.bias] if self.state else np.zeros((len(x), hidden), x.dtype)
        c = rest[-1] if self.state and self.kind == "lstm" else np.zeros_like(h)
        out = np.zeros((*x.shape[:2], hidden * (2 if self.cells else 1)), x.dtype)
        step: Callable[..., tuple[Array, Array]] = {"lstm": _lstm, "gru": _gru}.get(self.kind, self._elman)
        steps = range(x.shape[1])
        for t in reversed(steps) if self.reverse else steps:
            h, c = step(x[:, t], np.matmul(h, weight.T), h, c, bias)
            out[:, t] = np.concatenate([h, c], axis=-1) if self.cells else h
        return out

    def _elman(self, x: Array, product: Array, h: Array, c: Array, bias: Array) -> tuple[Array, Array]:
        return apply_activation(self.kind, x + product), c

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return operands[0].elements * (operands[1].shape[1] * 2)


def _lstm(x: Array, product: Array, h: Array, c: Array, bias: Array) -> tuple[Array, Array]:
    i, f, g, o = np.split(x + product, 4, axis=-1)
    c = apply_activation("sigmoid", f) * c + apply_activation("sigmoid", i) * np.tanh(g)
    return apply_activation("sigmoid", o) * np.tanh(c), c


def _gru(x: Array, product: Array, h: Array, c: Array, bias: Array) -> tuple[Array, Array]:
    (xr, xz, xn), (hr, hz, hn) = np.split(x, 3, axis=-1), np.split(product, 3, axis=-1)
    n = np.tanh(xn + apply_activation("sigmoid", xr + hr) * (hn + bias))
    return n + apply_activation("sigmoid", xz + hz) * (h - n), c
