"""Exported programs read as data: which archives are refused before torch, where weights lie, and what still builds."""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportUnknownLambdaType=false
from __future__ import annotations

import dataclasses
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

from infc.compiler.frontends import FrontendError, load
from infc.compiler.frontends.pt2 import Refused, read_program
from infc.compiler.frontends.pt2.sizes import parse_size
from infc.compiler.ir.interpret import run
from infc.compiler.ir.verify import verify
from infc.dsl.spec import Input

from .pt2_files import MODEL, WEIGHTS, Small, edited, entries, save_small, spec, write


class Pair(NamedTuple):
    sum: torch.Tensor
    product: torch.Tensor


@dataclasses.dataclass
class Result:
    left: torch.Tensor
    right: torch.Tensor


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp("pt2") / "net.pt2")


@pytest.mark.parametrize("decomposed", [False, True])
def test_weights_lie_where_the_graph_says(tmp_path: Path, decomposed: bool) -> None:
    path = save_small(tmp_path / "net.pt2", decomposed=decomposed)
    found = load(spec(path), tmp_path)
    weights = found.graph.weights
    assert {"first.weight", "first.bias", "shift", "scale"} <= set(weights)
    for name, weight in weights.items():
        assert weight.place is not None, name
        raw = np.fromfile(path, dtype=weight.place.dtype, count=weight.load().size, offset=weight.place.offset)
        np.testing.assert_array_equal(raw.reshape(weight.load().shape), weight.load())
    assert any(n.origin.source.startswith("pt2_files.py:") for n in found.graph.nodes())
    x = np.random.default_rng(0).standard_normal((5, 4)).astype("float32")
    want = Small().eval()(torch.from_numpy(x))
    for name, value in run(verify(found.graph), {"x": x}).items():
        np.testing.assert_allclose(value, want[name].detach().numpy(), atol=1e-5)
        np.testing.assert_allclose(found.reference({"x": x})[name], want[name].detach().numpy(), atol=1e-5)


class Views(torch.nn.Module):
    """Weights that share bytes, repeat them, or lie across."""

    across: torch.Tensor
    repeated: torch.Tensor
    part: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(20, 8)
        self.head = torch.nn.Linear(8, 20, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("across", torch.randn(20, 3).t())
        self.register_buffer("repeated", torch.randn(1, 20).expand(3, 20))
        whole = torch.randn(4, 20)
        self.register_buffer("part", whole[1:3])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.embedding(ids)) + (self.across * self.repeated).sum(0) + self.part.sum(0)


def test_weights_that_alias_or_stride_are_right(tmp_path: Path) -> None:
    module = Views().eval()
    path = _saved(tmp_path / "views.pt2", module, torch.arange(6).reshape(2, 3))
    found = load(spec(path), tmp_path)
    ids = np.arange(12).reshape(4, 3)
    got = run(verify(found.graph), {"ids": ids})["output0"]
    np.testing.assert_allclose(got, module(torch.from_numpy(ids)).detach().numpy(), atol=1e-5)
    places = {name: weight.place for name, weight in found.graph.weights.items()}
    assert places["across"] is None
    assert places["repeated"] is None
    assert places["part"] is not None


class Pairs(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Pair:
        return Pair(x + 1, x * 2)


class Results(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Result:
        return Result(x + 1, x * 2)


class Nested(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return {"a": x + 1, "b": [x + 2, (x + 3,)]}, x - 1


@pytest.mark.parametrize(("module", "names"), [
    (Pairs(), ["sum", "product"]), (Results(), ["left", "right"]),
    (Nested(), ["output0_a", "output0_b_0", "output0_b_1_0", "output1"]),
])  # fmt: skip
def test_outputs_have_the_names_that_the_module_gives(
    tmp_path: Path, module: torch.nn.Module, names: list[str]
) -> None:
    if Result not in pytree.SUPPORTED_NODES:
        torch.export.register_dataclass(Result, serialized_type_name="tests.Result")
        pytree._register_namedtuple(Pair, serialized_type_name="tests.Pair")  # pyright: ignore[reportPrivateUsage]
    path = _saved(tmp_path / "named.pt2", module, torch.randn(3, 4))
    found = load(spec(path), tmp_path)
    assert [name for name, _ in found.graph.outputs] == names
    x = np.ones((5, 4), dtype="float32")
    want, _ = pytree.tree_flatten(module(torch.from_numpy(x)))
    for name, value in zip(names, want, strict=True):
        np.testing.assert_allclose(run(found.graph, {"x": x})[name], value.numpy())


class Sizes(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows, tokens = x.shape[0], x.shape[1]
        return torch.nn.functional.pad(x, (0, 0, 0, (4 - tokens % 4) % 4)), x.reshape(rows * tokens, -1)


def test_sizes_are_computed_from_two_dimensions(tmp_path: Path) -> None:
    dims = {0: torch.export.Dim("batch", min=2, max=16), 1: torch.export.Dim("tokens", min=2, max=8)}
    path = tmp_path / "sizes.pt2"
    torch.export.save(torch.export.export(Sizes(), (torch.randn(3, 5, 4),), dynamic_shapes=(dims,)), path)
    found = load(spec(path, Input(name="x", dtype="float32", dims=("batch", "tokens", 4))), tmp_path)
    for rows, tokens in ((2, 2), (3, 7), (16, 8)):
        x = np.random.default_rng(0).standard_normal((rows, tokens, 4)).astype("float32")
        for got, want in zip(run(found.graph, {"x": x}).values(), Sizes()(torch.from_numpy(x)), strict=True):
            np.testing.assert_array_equal(got, want.numpy())


class Branch(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))


def test_control_flow_is_refused_by_name(tmp_path: Path) -> None:
    path = _saved(tmp_path / "branch.pt2", Branch(), torch.randn(3, 4))
    with pytest.raises(FrontendError, match=r"control flow that depends on values .*\(cond\)"):
        load(spec(path), tmp_path)


class WritesOut(torch.nn.Module):
    """An op whose result nobody reads, and which writes what a view shows."""

    def __init__(self, op: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.op = op

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        view = y.view(-1, 4)
        self.op(y)
        return view


@pytest.mark.parametrize(
    "op",
    [
        lambda y: torch.clamp(y, max=0.1, out=y),
        lambda y: y.clamp_(max=0.1),
        lambda y: torch.ops.aten._foreach_mul_.Scalar([y], 3.0),
    ],
    ids=["out", "in place", "foreach"],
)
def test_what_an_unread_op_writes_is_not_lost(tmp_path: Path, op: Callable[[torch.Tensor], object]) -> None:
    """Refused by name, or right: never left out."""
    path = _saved(tmp_path / "net.pt2", WritesOut(op).eval(), torch.randn(3, 4))
    x = torch.randn(3, 4)
    try:
        found = load(spec(path), tmp_path)
    except FrontendError:
        with pytest.raises(FrontendError, match="is not supported"):
            load(spec(path), tmp_path)
        return
    (got,) = run(verify(found.graph), {"x": x.numpy()}).values()
    np.testing.assert_allclose(got, WritesOut(op)(x).numpy(), rtol=1e-6)


def _raw(change: Callable[[bytearray], object]) -> Callable[[Path, Path], object]:
    def made(source: Path, target: Path) -> None:
        data = bytearray(source.read_bytes())
        change(data)
        target.write_bytes(data)

    return made


def _directory(data: bytearray, name: str) -> int:
    """Where the directory's record of an entry begins."""
    at = data.rindex(name.encode()) - 46
    assert data[at : at + 4] == b"PK\x01\x02"
    return at


def _lies(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, Path], object]:
    def edit(value: Any) -> None:
        change(value["config"]["first.weight"]["tensor_meta"])

    return lambda source, target: edited(source, target, WEIGHTS, edit)


def _zip(
    change: Callable[[zipfile.ZipFile, dict[str, bytes]], object], **options: Any
) -> Callable[[Path, Path], object]:
    def made(source: Path, target: Path) -> None:
        with zipfile.ZipFile(target, "w", **options) as archive:
            parts = entries(source)
            change(archive, parts)
            for name, data in parts.items():
                archive.writestr(f"net/{name}", data)

    return made


def _overlap(data: bytearray) -> None:
    at = _directory(data, "net/data/weights/weight_1")
    data[at + 20 : at + 28] = struct.pack("<2I", 192, 192)


REFUSALS: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "twice": (_zip(lambda z, p: z.writestr("net/byteorder", "little")), "'net/byteorder' is there twice"),
    "up": (_zip(lambda z, p: z.writestr("net/../x", "")), "'../x' is none that is read"),
    "absolute": (_zip(lambda z, p: z.writestr("/net/x", "")), "'/net/x' is not in the archive's one folder"),
    "two folders": (_zip(lambda z, p: z.writestr("other/byteorder", "little")), "is not in the archive's one folder"),
    "unknown": (_zip(lambda z, p: z.writestr("net/code.py", "")), "'code.py' is none that is read"),
    "compiled": (_zip(lambda z, p: z.writestr("net/data/aotinductor/model/a.so", "")), "a.so' is none that is read"),
    "bomb": (_zip(lambda z, p: None, compression=zipfile.ZIP_DEFLATED), "is compressed, and torch stores entries"),
    "big": (_zip(lambda z, p: p.update({"byteorder": b"big"})), "its byteorder is"),
    "version": (_zip(lambda z, p: p.update({"archive_version": b"9"})), "its archive_version is"),
    "two programs": (_zip(lambda z, p: z.writestr("net/models/b.json", "{}")), "it holds 2 programs"),
    "missing": (_zip(lambda z, p: p.pop(WEIGHTS)), "model_weights_config.json' is missing"),
    "comment": (_raw(lambda d: d.extend(b"more")), "does not end as a zip file does"),
    "front": (_raw(lambda d: d.__setitem__(slice(0, 0), b"more")), "its two ends differ"),
    "encrypted": (_raw(lambda d: d.__setitem__(_directory(d, "net/data/weights/weight_0") + 8, 1)), "is encrypted"),
    "overlap": (_raw(_overlap), "overlaps what follows it|described in two ways"),
    "local name": (_raw(lambda d: d.__setitem__(30, ord("x"))), "is described in two ways that differ"),
    "dtype": (_lies(lambda m: m.update(dtype=8)), "weight 'first.weight' has the shape '?.6, 4.'?, and 96 bytes are stored"),
    "sizes": (_lies(lambda m: m["sizes"].__setitem__(0, {"as_int": 7})), "and 96 bytes are stored"),
    "negative": (_lies(lambda m: m["strides"].__setitem__(0, {"as_int": -4})), "no number from 0 to"),
    "overflow": (_lies(lambda m: m.update(storage_offset={"as_int": 2**62})), "no number from 0 to"),
    "offset": (_lies(lambda m: m.update(storage_offset={"as_int": 1})), "and 96 bytes are stored"),
    "repeated": (
        _lies(lambda m: m.update(sizes=[{"as_int": 2**40}] * 2, strides=[{"as_int": 0}] * 2)), "elements, and 96 bytes are stored"
    ),
    "device": (_lies(lambda m: m["device"].update(type="cuda")), "no plain tensor of a CPU"),
    "layout": (_lies(lambda m: m.update(layout=1)), "no plain tensor of a CPU"),
    "extra key": (_lies(lambda m: m.update(more=1)), "a TensorMeta has no key 'more'"),
    "kind": (_lies(lambda m: m.update(requires_grad="yes")), "'yes' is no bool"),
    "union": (_lies(lambda m: m["sizes"].__setitem__(0, {"as_int": 6, "as_expr": 1})), "no SymInt of exactly one key"),
    "key twice": (_zip(lambda z, p: p.update({MODEL: p[MODEL].replace(b'"guards_code"', b'"verifiers"')})), "'verifiers' is there twice"),
    "deep": (_zip(lambda z, p: p.update({MODEL: b"[" * 100_000})), "is nested too deeply"),
    "number": (_zip(lambda z, p: p.update({MODEL: p[MODEL].replace(b'"aten": 10', b'"aten": 1' + b"0" * 5000)})), "does not fit 64 bits"),
    "nan": (_zip(lambda z, p: p.update({MODEL: p[MODEL].replace(b'"aten": 10', b'"aten": NaN')})), "NaN is no number"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(REFUSALS))
def test_an_archive_that_torch_would_not_write_is_refused_by_name(program: Path, tmp_path: Path, case: str) -> None:
    change, message = REFUSALS[case]
    path = tmp_path / "evil.pt2"
    change(program, path)
    with pytest.raises(Refused, match=message):
        read_program(path)


@pytest.mark.parametrize("text", [
    "Symbol('s0')", "Symbol('s77', positive=True, integer=True)", "Mul(Integer(2), Symbol('s0', integer=True))",
    "Add(Integer(4), Mul(Integer(-1), Mod(Symbol('s23', positive=True, integer=True), Integer(4))))",
    "Pow(Symbol('s0', integer=True), Integer(2))", "Float('0.5', precision=53)", "true",
])  # fmt: skip
def test_sizes_as_sympy_prints_them_are_read(text: str) -> None:
    assert parse_size(text).head in text or text == "true"


@pytest.mark.parametrize("text", [
    "", "s0", "Symbol('x')", "Symbol('s0', integer=False)", "Symbol('s0', commutative=True)", "Symbol(s0)", "Integer('1')",
    "Integer(" + "9" * 30 + ")", "Pow(Integer(9), Integer(9999999))", "Pow(Pow(Integer(9), Integer(8)), Integer(8))",
    "Add(" * 60 + "Integer(1)" + ")" * 60, "Add(" + ", ".join(["Integer(1)"] * 500) + ")", "exec('1')", "Lambda(x, x)",
    "Integer(1).__class__", "Integer(1) + Integer(2)", "Function('f')(Integer(1))", "Symbol('s0');1", "Integer(1))",
    "LShift(Integer(1), Integer(999999999))", "Float('inf', precision=53)", "Symbol('s0', integer=True, integer=True)",
])  # fmt: skip
def test_a_size_that_is_not_of_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        parse_size(text)


def test_names_of_weights_are_patterns_plain_text(program: Path, tmp_path: Path) -> None:
    def renamed(value: Any) -> Any:
        return json.loads(json.dumps(value).replace("first.weight", "my layer/0.weight"))

    parts = entries(edited(program, tmp_path / "a.pt2", MODEL, renamed))
    parts[WEIGHTS] = json.dumps(renamed(json.loads(parts[WEIGHTS]))).encode()
    assert "my layer/0.weight" in load(spec(write(tmp_path / "b.pt2", parts)), tmp_path).graph.weights


def _saved(path: Path, module: torch.nn.Module, example: torch.Tensor) -> Path:
    """module, exported for a batch of 2..16."""
    batch = torch.export.Dim("batch", min=2, max=16)
    torch.export.save(torch.export.export(module, (example,), dynamic_shapes=({0: batch},)), path)
    return path
