"""What stands behind the pooling in a folder of sentence-transformers: Dense, LayerNorm and Normalize, in the folder's order.

Their weights are in files of their own, `2_Dense/model.safetensors` say. An activation is looked up in a table and never
imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.dims import Dim
from ..ir.graph import Array, Graph, Node, Origin, Weight, make
from ..ir.ops.l2_normalize import L2Normalize
from ..ir.ops.layer_norm import LayerNorm
from ..ir.ops.leaf import weight_node
from ..ir.ops.linear import Linear
from ..ir.ops.map import Map
from ..ir.prims import apply_activation
from ..ir.types import TensorType
from .checkpoint import NAMES, Checkpoint, find_checkpoint, stored_place
from .errors import FrontendError
from .module_files import ANY, Known, check_known, module_config, shown
from .places import placed_weight

EPS = 1e-12
"""torch.nn.functional.normalize's least norm."""
NORM_EPS = 1e-5
"""torch.nn.LayerNorm's eps."""
_ACTIVATIONS: dict[str, str | None] = {
    "torch.nn.modules.activation.Tanh": "tanh", "torch.nn.Tanh": "tanh", "torch.nn.modules.linear.Identity": None,
    "torch.nn.Identity": None, "torch.nn.modules.activation.ReLU": "relu", "torch.nn.ReLU": "relu",
    "torch.nn.modules.activation.GELU": "gelu", "torch.nn.GELU": "gelu", "torch.nn.modules.activation.SiLU": "silu",
    "torch.nn.SiLU": "silu", "torch.nn.modules.activation.Sigmoid": "sigmoid", "torch.nn.Sigmoid": "sigmoid",
}  # fmt: skip
_DENSE: Known = dict.fromkeys(
    ("in_features", "out_features", "bias", "activation_function", "module_input_name", "module_output_name", "use_residual"), ANY
)  # fmt: skip
_INPUT = "sentence_embedding"


@dataclass(frozen=True)
class Stage:
    """One step from embedding to embedding. `dense`: act(x · weightᵀ + bias), and with `adds` x, or x · residualᵀ, on it;
    `norm`: LayerNorm; `unit`: made 1 long. `name`: its folder; weights by their names there."""

    kind: str
    name: str = "normalize"
    activation: str | None = None
    adds: bool = False
    weights: Mapping[str, Weight] = field(default_factory=dict[str, Weight])


UNIT = Stage("unit")


def read_dense(folder: Path, path: str, files: list[Path]) -> Stage:
    """The Dense module in folder/path. Raises FrontendError for what is not supported."""
    config, said = module_config(folder, path, files)
    check_known(folder, config, said, _DENSE)
    where = shown(folder, config)
    widths: list[Any] = [said.get("in_features"), said.get("out_features")]
    if not all(type(n) is int and 0 < n < 1 << 31 for n in widths):
        raise FrontendError(f"{where}: in_features and out_features are {widths}, and counts are needed")
    bias, adds = said.get("bias", True), said.get("use_residual", False)
    if type(bias) is not bool or type(adds) is not bool:
        raise FrontendError(
            f"{where}: bias and use_residual are {bias!r:.60} and {adds!r:.60}, and true or false is needed"
        )
    for key in ("module_input_name", "module_output_name"):
        name = said.get(key)
        if name != _INPUT and not (name is None and (key == "module_output_name" or key not in said)):
            raise FrontendError(f"{where}: {key} is {name!r:.80}, and {_INPUT} is supported")
    function = said.get("activation_function", "torch.nn.modules.activation.Tanh")
    if not isinstance(function, str) or function not in _ACTIVATIONS:
        raise FrontendError(
            f"{where} names the activation {function!r:.120}, which is not supported",
            hint=f"known are {', '.join(_ACTIVATIONS)}; no code of a folder is run",
        )
    inside, outside = int(widths[0]), int(widths[1])
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (outside, inside)}
    shapes |= {"linear.bias": (outside,)} if bias else {}
    shapes |= {"residual.weight": (outside, inside)} if adds and inside != outside else {}
    weights = _weights(folder, path, shapes, files)
    return Stage("dense", path, _ACTIVATIONS[function], adds, weights)


def read_layer_norm(folder: Path, path: str, files: list[Path]) -> Stage:
    """The LayerNorm module in folder/path. Raises FrontendError."""
    config, said = module_config(folder, path, files)
    width = said.get("dimension")
    if set(said) != {"dimension"} or type(width) is not int or not 0 < width < 1 << 31:
        raise FrontendError(
            f"{shown(folder, config)} has {', '.join(map(repr, said))[:200]}, and a count under 'dimension' is needed"
        )
    shapes = {"norm.weight": (width,), "norm.bias": (width,)}
    return Stage("norm", path, weights=_weights(folder, path, shapes, files))


def check_dropout(folder: Path, path: str, files: list[Path]) -> None:
    """Dropout does nothing here; its file is read for what else it says. Raises FrontendError."""
    config, said = module_config(folder, path, files)
    check_known(folder, config, said, {"dropout": ANY})


def _weights(folder: Path, path: str, shapes: Mapping[str, tuple[int, ...]], files: list[Path]) -> dict[str, Weight]:
    """The weights of a module, which its checkpoint holds in these shapes and no others. Raises FrontendError."""
    checkpoint = find_checkpoint(folder / path)
    files.extend(checkpoint.files)
    found = _pickled(checkpoint) if checkpoint.pickled else _stored(checkpoint)
    where = f"{folder.name}/{path[:120]}"
    if set(found) != set(shapes):
        raise FrontendError(
            f"{where} holds the tensors {', '.join(sorted(found))[:200] or 'none'}, and {', '.join(shapes)} are needed"
        )
    for name, shape in shapes.items():
        if found[name].type != TensorType("float32", shape):
            raise FrontendError(
                f"{where}: the tensor {name} is {found[name].type}, and its config.json makes it {TensorType('float32', shape)}"
            )
    return {name: found[name] for name in shapes}


def _stored(checkpoint: Checkpoint) -> dict[str, Weight]:
    weights: dict[str, Weight] = {}
    for name, stored in checkpoint.tensors.items():
        dtype = NAMES.get(stored.dtype, "")
        if dtype not in ("float32", "float16", "bfloat16", "float64"):
            raise FrontendError(
                f"{stored.file.name}: the tensor {name[:120]!r} is {stored.dtype}, and floats are needed"
            )
        weights[name] = placed_weight(stored_place(stored), TensorType("float32", stored.shape))
    return weights


def _pickled(checkpoint: Checkpoint) -> dict[str, Weight]:
    # torch is there in the worker alone, and this module is imported outside of it too.
    from .import_mlir import tensor_weight
    from .pickled import read_bin

    state = read_bin(checkpoint)
    return {
        name: tensor_weight(name, tensor.float(), TensorType("float32", tuple(tensor.shape)))
        for name, tensor in state.items()
    }


def check_stages(stages: Sequence[Stage], width: Dim, source: str, *, nan_allowed: bool) -> None:
    """Raises FrontendError where a stage does not fit the embedding of `width` before it, or a weight is no number."""
    for stage in stages:
        for name, weight in stage.weights.items():
            if not nan_allowed and not np.isfinite(weight.load()).all():
                raise FrontendError(
                    f"{source}: parameter '{stage.name}.{name}' holds what is no finite number",
                    hint="the checkpoint is damaged, or write `nan allowed` behind the source",
                )
        main = stage.weights.get("linear.weight") or stage.weights.get("norm.weight")
        if main is None:
            continue
        if main.type.shape[-1] != width:
            raise FrontendError(
                f"{source}/{stage.name} takes {main.type.shape[-1]} values, and the embedding before it has {width}"
            )
        width = main.type.shape[0]


def append_stages(graph: Graph, out: Node, stages: Sequence[Stage]) -> tuple[Graph, Node]:
    """graph with the weights of the stages, and what they make of `out`, float32 [batch, width]."""
    for stage in stages:
        origin = Origin(stage.name)
        names = {name: f"{stage.name}.{name}" for name in stage.weights}
        held = {names[name]: weight for name, weight in stage.weights.items()}
        graph = replace(graph, weights={**graph.weights, **held})
        nodes = {name: weight_node(names[name], held[names[name]].type, origin) for name in names}
        if stage.kind == "unit":
            out = make(L2Normalize(eps=EPS), out, origin=origin)
        elif stage.kind == "norm":
            out = make(LayerNorm(eps=NORM_EPS), out, nodes["norm.weight"], nodes["norm.bias"], origin=origin)
        else:
            operands = [nodes["linear.weight"], *([nodes["linear.bias"]] if "linear.bias" in nodes else [])]
            made = make(Linear(bias=len(operands) > 1, activation=stage.activation), out, *operands, origin=origin)
            if stage.adds:
                beside = (
                    make(Linear(), out, nodes["residual.weight"], origin=origin) if "residual.weight" in nodes else out
                )
                made = make(Map("add"), made, beside, origin=origin)
            out = made
    return graph, out


def apply_stages(out: Array, stages: Sequence[Stage]) -> Array:
    """The same in NumPy, of float64 [B, W]."""
    for stage in stages:
        held = {name: weight.load().astype(np.float64) for name, weight in stage.weights.items()}
        if stage.kind == "unit":
            out = out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), EPS)
        elif stage.kind == "norm":
            centred = out - out.mean(axis=1, keepdims=True)
            scale = np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + NORM_EPS)
            out = centred / scale * held["norm.weight"] + held["norm.bias"]
        else:
            made = out @ held["linear.weight"].T + held.get("linear.bias", np.float64(0))
            made = made if stage.activation is None else apply_activation(stage.activation, made)
            beside = out @ held["residual.weight"].T if "residual.weight" in held else out
            out = made + beside if stage.adds else made
    return out
