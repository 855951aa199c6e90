"""Every aten op that the importer knows, against torch: shapes, dtypes and values at both bounds and between."""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infc.compiler.frontends import import_aten
from infc.compiler.frontends.errors import FrontendError
from infc.compiler.frontends.fields import Field
from infc.compiler.frontends.fx_export import export_module
from infc.compiler.frontends.import_mlir import import_program
from infc.compiler.frontends.to_mlir import Program, to_mlir
from infc.compiler.ir.interpret import run
from infc.compiler.ir.verify import verify

from .aten_cases import GROUPS, Group

FIELDS = (
    Field("x", "x", "float32", ("batch", "tokens", 8)),
    Field("y", "y", "float32", ("batch", "tokens", 8)),
    Field("i", "i", "int64", ("batch", "tokens")),
    Field("img", "img", "float32", ("batch", 4, 9, 10)),
)
BOUNDS = {"batch": (1, 6), "tokens": (3, 12)}
SHAPES = ((1, 3), (3, 7), (6, 12))
TOLERANCE = 2e-5
"""Both sides compute in float32; sums over at most 360 elements of size about 1."""


def program_of(module: torch.nn.Module, fields: tuple[Field, ...] = FIELDS) -> Program:
    """module as MLIR over the four inputs."""
    bounds = {k: v for k, v in BOUNDS.items() if any(k in f.symbols for f in fields)}
    return to_mlir(export_module(module, fields, bounds))


def inputs_of(rows: int, tokens: int) -> list[torch.Tensor]:
    """Seeded inputs of one shape."""
    torch.manual_seed(rows)
    return [
        torch.randn(rows, tokens, 8),
        torch.randn(rows, tokens, 8),
        torch.randint(0, 10, (rows, tokens)),
        torch.randn(rows, 4, 9, 10),
    ]


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_each_expression_agrees_with_torch(group: str) -> None:
    module = Group(GROUPS[group])
    graph = verify(import_program(program_of(module), group))
    for rows, tokens in SHAPES:
        inputs = inputs_of(rows, tokens)
        with torch.no_grad():
            wanted = {name: value.numpy() for name, value in module(*inputs).items()}
        named = {f.name: t.numpy() for f, t in zip(FIELDS, inputs, strict=True)}
        got = run(graph, named)
        for name, want in wanted.items():
            have = got[name]
            assert (have.shape, have.dtype) == (want.shape, want.dtype), name
            np.testing.assert_allclose(have, want, rtol=1e-4, atol=TOLERANCE, equal_nan=True, err_msg=name)


class One(torch.nn.Module):
    """A module of one expression over x."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


REFUSED: dict[str, tuple[Any, str, str]] = {
    "bilinear": (
        lambda x: torch.nn.functional.interpolate(x[:, None], size=(7, 12), mode="bilinear"),
        "the op aten.upsample_bilinear2d",
        "resize outside the model",
    ),
    "median": (lambda x: x.median(-1).values, "the op aten.median", "use `sort`"),
    "scatter": (
        lambda x: torch.zeros_like(x).scatter(2, torch.zeros(1, 1, 1, dtype=torch.int64), 1.0),
        "scattering to a part of a tensor",
        "the tensor's extents on the other axes",
    ),
    "scatter_reduce": (
        lambda x: x.scatter_reduce(2, torch.zeros_like(x, dtype=torch.int64), x, "prod"), "scatter_reduce by prod", "known are"
    ),
    "scatter many": (
        lambda x: x.scatter(1, torch.zeros_like(x, dtype=torch.int64), x), "values of a line", "scatter up to 64"
    ),
    "index_put": (
        lambda x: torch.index_put(x, [torch.tensor([0]), torch.tensor([1])], torch.tensor(1.0)),
        "assignment by index",
        "assign one value by a mask",
    ),
    "assignment by token": (
        lambda x: torch.index_put(x, [torch.tensor([-1])], torch.tensor(1.0)), "by index to an axis of", "mask over"
    ),
    "strided assignment": (lambda x: torch.slice_scatter(x, x[:, ::2], 1, 0, None, 2), "slice with a step", "mask over"),
    "searchsorted": (
        lambda x: torch.searchsorted(x, x, sorter=torch.zeros(x.shape, dtype=torch.int64)), "a sorter", "in its order"
    ),
    "float64": (lambda x: x.double() * 2, "dtype float64 is not supported", "compute in float32"),
    "float16": (lambda x: x.half().float(), "dtype float16 is not supported", "compute in float32"),
    "random": (lambda x: x + torch.rand_like(x), "the op aten.rand_like", "no place in inference"),
    "reflect": (
        lambda x: torch.nn.functional.pad(x, (-1, 2), mode="replicate"), "replicate padding of -1 and 2", "fixed counts"
    ),
    "cumprod": (lambda x: x.cumprod(1), "running products of tokens elements", "cumsum of logarithms"),
    "empty": (lambda x: torch.empty_like(x) * x, "before it is written", "zeros, ones, full or cat"),
    "transposed": (
        lambda x: torch.nn.functional.conv_transpose1d(x.mT, torch.ones(8, 4, 3)),
        "transposed convolution|conv_transpose1d",
        "pixel_shuffle",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_is_not_supported_is_named_with_its_line_and_a_rewrite(case: str) -> None:
    body, message, hint = REFUSED[case]
    with pytest.raises(FrontendError) as caught:
        import_program(program_of(One(body), FIELDS[:1]), case)
    assert re.search(message, caught.value.message)
    assert re.match(r"\S*test_frontends_aten\.py:\d+: ", caught.value.message)
    assert hint in caught.value.hint


def test_every_row_of_the_table_has_a_plausible_name() -> None:
    names = import_aten.known()
    assert len(names) > 250
    assert all(re.match(r"(aten|prim|prims|constant|infc)\.\w+", n) for n in names)


def test_a_weight_is_a_reference_and_its_bytes_are_not_in_the_mlir(tmp_path: Path) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(8, 300)
    program = program_of(One(linear), FIELDS[:1])
    text = program.text()
    assert '"infc.weight"() {weight = "body.weight"}' in text
    assert len(text) < 2000
    graph = import_program(program, "m")
    assert set(graph.weights) == {"body.weight", "body.bias"}
    np.testing.assert_array_equal(graph.weights["body.weight"].load(), linear.weight.detach().numpy())


def test_tied_weights_arrive_once() -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x))

    graph = import_program(program_of(Tied(), FIELDS[:1]), "tied")
    assert len([n for n in graph.weights if n.endswith("weight")]) == 1


def test_half_weights_are_refused_by_name() -> None:
    class Half(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(8, dtype=torch.bfloat16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale.float()

    with pytest.raises(FrontendError, match="the weight 'scale' has dtype bfloat16"):
        import_program(program_of(Half(), FIELDS[:1]), "half")


def test_origins_say_module_line_and_op() -> None:
    class Outer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.inner(x))

    graph = import_program(program_of(Outer(), FIELDS[:1]), "m")
    linear = next(n for n in graph.nodes() if n.op.mnemonic == "linear")
    assert linear.origin.name == "inner"
    assert re.fullmatch(r"\S*test_frontends_aten\.py:\d+", linear.origin.source)
    assert linear.origin.imported == "aten.linear"
