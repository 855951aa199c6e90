"""bfloat16 and q8 as the interpreter defines them: against torch, at the edges of their grids, in print."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infc.compiler.ir.dims import sym
from infc.compiler.ir.graph import Array, Graph, InputSpec, OpError, Weight, make
from infc.compiler.ir.interpret import run
from infc.compiler.ir.ops.attention import Attention
from infc.compiler.ir.ops.leaf import input_node, weight_node
from infc.compiler.ir.ops.linear import Linear
from infc.compiler.ir.ops.quantize import Quantize
from infc.compiler.ir.printer import parse_graph, print_graph
from infc.compiler.ir.reduced import Q8_ZERO, reduce_to, to_bfloat16, to_q8
from infc.compiler.ir.types import TensorType, parse_type
from infc.compiler.ir.verify import verify

EDGES = np.array(
    [0.0, -0.0, 1.0, 1 + 2**-8, 1 + 3 * 2**-9, -3.3, 65280.0, 3.3e38, 1e-39, np.inf, -np.inf, np.nan], np.float32
)


def values(*shape: int) -> Array:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def test_bfloat16_is_torchs() -> None:
    for x in (EDGES, values(7, 33)):
        want = torch.tensor(x).to(torch.bfloat16)
        np.testing.assert_array_equal(reduce_to("bfloat16", x), want.to(torch.float32).numpy())
        assert to_bfloat16(x).shape == x.shape


def test_q8_steps_are_the_largest_magnitude_over_127() -> None:
    x = values(5, 40)
    q, scale = to_q8(x)
    np.testing.assert_array_equal(np.abs(q).max(1), 127)
    np.testing.assert_allclose(scale, np.abs(x).max(1) / 127, rtol=1e-6)
    assert np.abs(reduce_to("q8", x) - x).max() <= 0.5001 * scale.max(), "rounded to the nearest step"
    # a value on the grid stays where it is, to a rounding of float32
    np.testing.assert_allclose(reduce_to("q8", reduce_to("q8", x)), reduce_to("q8", x), rtol=1e-6)


def test_q8_of_odd_rows() -> None:
    rows = np.zeros((5, 4), np.float32)
    rows[1] = Q8_ZERO / 2
    rows[2, 1] = np.nan
    rows[3, 2] = -np.inf
    rows[4] = [3e38, -3e38, 1.0, 0.0]
    found = reduce_to("q8", rows)
    np.testing.assert_array_equal(found[:2], 0)
    assert np.isnan(found[2:4]).all(), "nothing that is computed from such a row looks like a number"
    np.testing.assert_allclose(found[4], [3e38, -3e38, 0, 0], rtol=1e-6)
    assert reduce_to("q8", np.zeros((0, 4), np.float32)).shape == (0, 4)


def graph(precision: str, *, smooth: bool = False, out: str = "float32") -> Graph:
    """x[batch, 6, 16] through one linear layer in a reduced precision."""
    arrays = {"w": values(8, 16), "b": values(8), "s": np.abs(values(16)) + 0.5}
    table = {n: Weight(TensorType("float32", a.shape), lambda a=a: a) for n, a in arrays.items()}
    x = input_node("x", TensorType("float32", (sym("batch"), 6, 16)))
    factors = (weight_node("s", table["s"].type),) if smooth else ()
    narrow = make(Quantize(precision, smooth), x, *factors)  # type: ignore[arg-type]
    weights = (weight_node(n, table[n].type) for n in ("w", "b"))
    y = make(Linear(True, False, "gelu", precision, out), narrow, *weights)  # type: ignore[arg-type]
    return Graph("one", {"batch": (1, 4)}, (x,), (("y", y),), table, {"x": InputSpec()})


@pytest.mark.parametrize("precision", ["bfloat16", "q8"])
@pytest.mark.parametrize("smooth", [False, True])
def test_a_linear_multiplies_values_of_the_grid(precision: str, smooth: bool) -> None:
    made, x = verify(graph(precision, smooth=smooth)), values(3, 6, 16)
    arrays = {name: weight.load() for name, weight in made.weights.items()}
    rows = reduce_to(precision, x * arrays["s"] if smooth else x)  # type: ignore[arg-type]
    weight = reduce_to(precision, arrays["w"])  # type: ignore[arg-type]
    want = torch.nn.functional.gelu(
        torch.tensor(rows).double() @ torch.tensor(weight).double().T + torch.tensor(arrays["b"]).double()
    )
    np.testing.assert_allclose(run(made, {"x": x}, double=True)["y"], want.numpy(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(run(made, {"x": x})["y"], want.numpy(), rtol=1e-4, atol=1e-5)


def test_a_result_in_bfloat16_is_rounded() -> None:
    x = values(2, 6, 16)
    exact, rounded = (run(graph("q8", out=out), {"x": x})["y"] for out in ("float32", "bfloat16"))
    np.testing.assert_array_equal(rounded, reduce_to("bfloat16", exact))


def test_attention_over_bfloat16_is_attention_over_its_values() -> None:
    q, k, v = (reduce_to("bfloat16", values(1, 5, 2, 8) + n) for n in range(3))
    exact = Attention(0.3).reference({}, q, k, v)
    np.testing.assert_array_equal(Attention(0.3, out="bfloat16").reference({}, q, k, v), reduce_to("bfloat16", exact))


@pytest.mark.parametrize("precision", ["bfloat16", "q8"])
def test_reduced_graphs_print_and_parse(precision: str) -> None:
    made = graph(precision, smooth=True, out="bfloat16")
    text = print_graph(made)
    assert f"{{dtype={precision}, smooth=true}}" in text
    assert f"precision={precision}, out=bfloat16" in text
    assert print_graph(parse_graph(text, made.weights)) == text
    assert str(parse_type("q8[batch,4]")) == "q8[batch,4]"


X = TensorType("float32", (2, 16))
W = TensorType("float32", (8, 16))


@pytest.mark.parametrize(
    ("op", "operands", "message"),
    [
        (Quantize("int4"), (X,), "quantize: dtype is one of bfloat16, q8, not 'int4'"),  # type: ignore[arg-type]
        (Quantize("q8"), (TensorType("int64", (2, 16)),), "quantize: x must be float32 or bfloat16"),
        (Quantize("q8"), (TensorType("float32", (2, sym("n"))),), "needs a fixed extent"),
        (Quantize("q8", smooth=True), (X, TensorType("float32", (8,))), "quantize: smooth f32[8] must have shape [16]"),
        (Linear(precision="q8"), (X, W), "linear takes x in q8"),
        (Linear(precision="int64"), (X, W), "linear: precision is float32, bfloat16 or q8"),
        (Linear(out="bfloat16"), (X, W), "linear in float32 has no result of 'bfloat16'"),
        (Linear(precision="q8", out="q8"), (TensorType("q8", (2, 16)), W), "linear in q8 has no result of 'q8'"),
        (Attention(1.0, out="bfloat16"), (TensorType("float32", (1, 2, 2, 4)),) * 3, "attention of float32 has no"),
        (
            Attention(1.0),
            (TensorType("bfloat16", (1, 2, 2, 4)), *(TensorType("float32", (1, 2, 2, 4)),) * 2),
            "attention: k must be bfloat16",
        ),
    ],
)
def test_what_does_not_fit_is_refused(op: Quantize, operands: tuple[TensorType, ...], message: str) -> None:
    with pytest.raises(OpError, match=message.replace("[", r"\[").replace("]", r"\]")):
        op.infer(*operands)
