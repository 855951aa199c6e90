"""Sizes of free dimensions: pooled, taken in pieces, compared, the smaller of two; and rows that stay rows all the same."""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false
from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from infc.compiler.compare import check_smallest
from infc.compiler.errors import InfcError
from infc.compiler.frontends.branches import Branches
from infc.compiler.frontends.counted import counted_range
from infc.compiler.frontends.errors import FrontendError
from infc.compiler.frontends.fields import Field
from infc.compiler.frontends.fx_export import export_module
from infc.compiler.frontends.import_mlir import import_program
from infc.compiler.frontends.imported import Imported
from infc.compiler.frontends.to_mlir import to_mlir
from infc.compiler.ir.dims import Range
from infc.compiler.ir.graph import Graph
from infc.compiler.ir.interpret import run
from infc.compiler.passes.pipeline import default_passes, run_passes
from infc.compiler.passes.ragged import analyse

X = Field("x", "x", "float32", ("batch", "tokens", 8))


class One(nn.Module):
    """A module of one expression over x [batch, tokens, 8]."""

    def __init__(self, body: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def graph_of(module: nn.Module, tokens: Range, *fields: Field) -> Graph:
    bounds = {"batch": (1, 4), "tokens": tokens}
    return import_program(to_mlir(export_module(module.eval(), fields or (X,), bounds)), "sizes")


def in_pieces(x: Tensor) -> Tensor:
    """Each sixteen tokens, less their mean."""
    parts = [x[:, start : min(start + 16, x.shape[1])] for start in range(0, x.shape[1], 16)]
    return torch.cat([part - part.mean(1, keepdim=True) for part in parts], 1)


def filled(x: Tensor) -> Tensor:
    out = x.new_empty(*x.shape[:-1], 12)
    out[..., 4:] = x
    out[..., :4] = x[..., :4].exp()
    return out


def filled_by_rows(x: Tensor) -> Tensor:
    out = torch.empty(x.shape[0], 3, x.shape[1])
    for place in range(3):
        out[:, place] = x[..., place] * place
    return out


def repeated(x: Tensor) -> Tensor:
    """Each fourth token four times, and the last one as often as is left."""
    fourth = x[:, ::4][:, : x.shape[1] // 4]
    whole = fourth[:, :, None].expand(-1, -1, 4, -1).reshape(x.shape[0], x.shape[1] // 4 * 4, 8)
    return x + torch.cat([whole, x[:, -1:].expand(-1, 4, -1)[:, : x.shape[1] % 4]], 1)


BODIES: dict[str, tuple[Callable[[Tensor], Tensor], Range]] = {
    "max_pool1d": (lambda x: F.max_pool1d(x.mT, 4, 3, padding=1), (5, 40)),
    "max_pool1d, a kernel alone": (lambda x: nn.MaxPool1d(2)(x.mT), (4, 40)),
    "max_pool1d of one line": (lambda x: F.max_pool1d(x[:, :, 0], 3, 1), (4, 40)),
    "two pools": (lambda x: F.max_pool1d(F.avg_pool1d(x.mT, 2), 2), (8, 40)),
    "pieces": (in_pieces, (1, 16)),
    "the smaller": (lambda x: x[:, : torch.sym_min(x.shape[1], 64)] + torch.sym_min(x.shape[1], 2), (2, 40)),
    "the larger": (lambda x: x * float(torch.sym_max(0, x.shape[1] - 64)) + torch.sym_max(x.shape[1], 1), (2, 40)),
    "filled": (filled, (1, 40)),
    "filled by rows": (filled_by_rows, (1, 40)),
    "filled at once": (lambda x: torch.empty_like(x).copy_(x * 2), (1, 40)),
}


@pytest.mark.parametrize("case", sorted(BODIES))
def test_any_length_of_the_bounds_agrees_with_torch(case: str) -> None:
    body, (low, high) = BODIES[case]
    graph = graph_of(One(body), (low, high))
    for rows, tokens in ((1, low), (3, (low + high) // 2), (4, high - 1), (4, high)):
        x = torch.randn(rows, tokens, 8, generator=torch.Generator().manual_seed(tokens))
        (got,) = run(graph, {"x": x.numpy()}).values()
        np.testing.assert_allclose(got, body(x).numpy(), rtol=1e-5, atol=1e-6, err_msg=f"{rows}x{tokens}")


def looped(x: Tensor) -> Tensor:
    total = x[:, 0]
    for place in range(1, x.shape[1]):
        total = torch.tanh(total + x[:, place])
    return total


def half_filled(x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    out[..., :4] = x[..., :4]
    return out


def filled_both_ways(x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    out[..., :4] = x[..., :4]
    out[:, :1] = x[:, :1]
    return out


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str, str]] = {
    "a loop over tokens": (looped, "counts or decides by the extent of 'tokens' (1..40 in the spec) in Python", "one extent"),
    "pieces of any number": (in_pieces, "counts or decides by the extent of 'tokens'", "one extent"),
    "the smaller, unknown": (
        lambda x: x[:, : torch.sym_min(x.shape[1], 7)], "not work for all of tokens in 1..40: min\\(7, tokens\\)", "write `dim tokens in 1..7`"
    ),
    "half filled": (half_filled, "of the output 'output0' a part is never written", "full or cat"),
    "filled both ways": (filled_both_ways, "filled along more than one axis", "full or cat"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_depends_on_the_length_in_python_is_refused_without_the_exporters_example(case: str) -> None:
    body, message, hint = REFUSED[case]
    with pytest.raises(FrontendError) as caught:
        graph_of(One(body), (1, 40))
    assert re.search(message.replace("(1..40", r"\(1..40").replace("spec)", r"spec\)"), caught.value.message)
    assert hint in (caught.value.hint or "")
    assert "= 3" not in caught.value.message


def test_a_guard_that_the_exporter_leaves_to_the_program_is_tried_for_every_size() -> None:
    """Traced with a remainder of one, which is then broadcast: no other remainder may pass."""
    with pytest.raises(FrontendError) as caught:
        graph_of(One(repeated), (8, 40))
    assert caught.value.message == "the model does not work for all of tokens in 8..40: Eq(Mod(tokens, 4), 1)"
    assert caught.value.hint == "give 'tokens' a fixed extent"


BRANCHES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "one of some": (lambda x: x * 2 if x.shape[1] in (1, 7) else x + 1, "tokens in 1..40: tokens != "),
    "elements": (lambda x: x * 2 if x.numel() > 1000 else x + 1, "8*tokens*batch <= 1000"),
    "as many rows as tokens": (lambda x: x * 2 if x.shape[0] == x.shape[1] else x + 1, "batch != tokens"),
    "an even number": (lambda x: x * 2 if (x.shape[0] * x.shape[1]) % 2 else x + 1, "(tokens*batch, 2)"),
    "asserted": (lambda x: x + bool(x.numel() < 200), "8*tokens*batch"),
    "squeezed": (lambda x: x.squeeze(1).sum(-1), "squeeze takes axis 1"),
    "squeezed whole": (lambda x: x[..., :1].squeeze(), "squeeze takes axis 0"),
}


def range_of_pieces(x: Tensor) -> Any:
    return range(0, x.shape[1] - 1, 64)


@pytest.mark.parametrize("case", sorted(BRANCHES))
def test_a_branch_by_sizes_is_tried_for_every_size(case: str) -> None:
    """The exporter takes each size for two or more, and drops what is said of two dimensions."""
    body, message = BRANCHES[case]
    with pytest.raises(FrontendError) as caught:
        graph_of(One(body), (1, 40))
    assert message in caught.value.message
    assert caught.value.hint


ONES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "one row": (lambda x: x * 2 if x.shape[0] == 1 else x + 1, "batch"),
    "one token": (lambda x: x * 2 if x.shape[1] == 1 else x + 1, "tokens"),
    "more than one": (lambda x: x * 2 if x.shape[1] > 1 else x + 1, "tokens"),
    "one and one": (lambda x: x * 2 if x.shape[0] * x.shape[1] == 1 else x + 1, "batch = 1 and tokens"),
    "no piece": (lambda x: x * len(range_of_pieces(x)), "tokens"),
    "no sum": (lambda x: x.cumsum(1) if x.shape[1] > 1 else x, ""),
}


@pytest.mark.parametrize("case", sorted(ONES))
def test_a_branch_for_one_is_found_by_comparing(case: str) -> None:
    """torch.export leaves it out; where nothing comes of it, it is no harm."""
    body, name = ONES[case]
    graph = graph_of(One(body), (1, 40))
    imported = Imported(graph, "", lambda given: {"output0": body(torch.from_numpy(given["x"])).numpy()}, ())
    if not name:
        check_smallest(imported)
        return
    with pytest.raises(InfcError, match=f"computes something else for {name} = 1 than for larger sizes") as caught:
        check_smallest(imported)
    assert f"`dim {name.split()[0]} in 2.." in (caught.value.hint or "")


def test_sizes_that_the_source_itself_refuses_are_named() -> None:
    def fails(given: Any) -> Any:
        raise InfcError("too short")

    with pytest.raises(InfcError, match="the model fails for batch = 1: too short"):
        check_smallest(Imported(graph_of(One(torch.tanh), (1, 40)), "", fails, ()))


@pytest.mark.parametrize("tokens", [(3, 18), (2, 18)])
def test_what_a_hint_says_is_tried_again(tokens: Range) -> None:
    for body in (lambda x: x * 2 if sum(x.shape[:2]) > 20 else x, lambda x: x * 2 if x.shape[0] < x.shape[1] else x):
        with pytest.raises(FrontendError, match="does not work for all of"):
            graph_of(One(body), tokens)


def test_a_range_stands_for_pythons() -> None:
    counted: Any = counted_range(Branches())
    assert counted(4) == range(4)
    assert counted(1, 9, 3) == range(1, 9, 3)
    assert isinstance(range(3), counted)
    assert not isinstance([0], counted)
    with pytest.raises(TypeError):
        counted(1.5)


def zeroed(x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    out[:, 1:] = x[:, :-1]
    out[:, 0] = 0
    return out


def test_a_part_may_be_filled_with_a_number() -> None:
    graph = graph_of(One(zeroed), (3, 9))
    x = torch.randn(2, 5, 8)
    np.testing.assert_array_equal(run(graph, {"x": x.numpy()})["output0"], zeroed(x).numpy())


@pytest.mark.parametrize("body", [lambda x: x * (-x.shape[1] // 4), lambda x: x * ((x.shape[1] - 20) // 3)])
def test_a_size_may_be_negative(body: Callable[[Tensor], Tensor]) -> None:
    graph = graph_of(One(body), (1, 40))
    for tokens in (1, 4, 7, 40):
        x = torch.randn(2, tokens, 8)
        np.testing.assert_array_equal(run(graph, {"x": x.numpy()})["output0"], body(x).numpy())


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class Kept(nn.Module):
    """nn.TransformerEncoder with padding."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = encoder()

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        return self.encoder(x, src_key_padding_mask=keep == 0)


class Picked(nn.Module):
    """The token of each row that an input names."""

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        return x[torch.arange(x.shape[0]), keep[:, 0]]


def clip() -> nn.Module:
    config = transformers.CLIPTextConfig(
        vocab_size=60, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=32, projection_dim=8, eos_token_id=3, bos_token_id=4,
    )  # fmt: skip
    return transformers.CLIPTextModelWithProjection(config)


KEEP = Field("keep", "keep", "int64", ("batch", "tokens"))
IDS = (Field("input_ids", "input_ids", "int64", ("batch", "tokens")), KEEP)


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (encoder, (Field("src", "src", "float32", X.shape),)),
        (Kept, (X, KEEP)),
        (Picked, (X, KEEP)),
        (clip, (IDS[0],)),
    ],
    ids=["encoder", "padded", "picked", "clip"],
)
def test_requests_are_merged_where_rows_are_transposed_or_picked(
    make: Callable[[], nn.Module], fields: tuple[Field, ...]
) -> None:
    torch.manual_seed(0)
    module = make().eval()
    graph = run_passes(graph_of(module, (1, 20), *fields), default_passes())
    assert analyse(graph).batchable
    assert not any("iota" in n.op.mnemonic and "batch" in str(n.type) for n in graph.nodes())
    given: dict[str, Any] = {
        "input_ids": torch.randint(0, 60, (3, 9)), "keep": torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] + [0] * 8])
    }  # fmt: skip
    tensors = {f.name: given[f.name] if f.name in given else torch.randn(3, 9, 8) for f in fields}
    with torch.no_grad():
        want = module(*tensors.values())
    got = run(graph, {name: tensor.numpy() for name, tensor in tensors.items()})
    for name, right in want.items() if isinstance(want, dict) else [("output0", want)]:
        np.testing.assert_allclose(got[name], right.numpy(), rtol=1e-4, atol=1e-5)
