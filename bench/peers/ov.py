"""OpenVINO: static shapes, the LATENCY hint; from ONNX or from torch, whichever is faster; int8 through NNCF."""

# pyright: basic, reportMissingImports=false
# (the peers come with `make bench` only)

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from ..artifacts import artifact_key, made
from ..cases import Case
from ..models import LONGEST, artifacts, model_folder, output_of
from . import Call, Run, inputs, ov_c

VERSION_OF = "openvino"
COMMON = "static shapes, LATENCY hint, one stream; from ONNX or from torch, whichever is faster (the tabular network: from ONNX, "
COMMON += "ov_infer_request_infer in a loop in C; else called from Python); INFERENCE_PRECISION_HINT "
SETTINGS = {
    "float32": COMMON + "f32",
    "bfloat16": COMMON + "bf16",
    "int8": "NNCF post-training quantization (model type transformer, 256 calibration sentences that are not measured; "
    "presets mixed and performance), then static shapes, LATENCY hint, one stream; the rest in f32 or bf16; whichever "
    "is faster and exact enough",
}
HINTS = {"float32": ("f32",), "bfloat16": ("bf16",), "int8": ("f32", "bf16")}
_compiled: dict[Call, ov.CompiledModel] = {}


def candidates(case: Case, threads: int, variant: str) -> dict[str, Call]:
    if case.model == "mlp":
        file = artifacts(case.model) / f"{case.shape}.onnx"
        config = {key: str(value) for key, value in settings("f32", threads).items()}
        return {"": ov_c.bind(file, list(inputs(case).values()), output_of(case)[1], config)}
    calls: dict[str, Call] = {}
    _compiled.clear()
    for name, model in models(case).items():
        for hint in HINTS[case.precision]:
            compiled = compile_model(model, hint, threads)
            call = bind(compiled, inputs(case))
            _compiled[call] = compiled
            calls[f"{name}, {hint}" if len(HINTS[case.precision]) > 1 else name] = call
    return calls


def models(case: Case) -> dict[str, ov.Model]:
    """Models with the case's static shapes, by where they came from."""
    core = ov.Core()
    if case.precision == "int8":
        found = {preset: core.read_model(quantized(case.model, preset)) for preset in ("mixed", "performance")}
    else:
        found = {"from torch": core.read_model(from_torch(case.model))}
    for model in found.values():
        model.reshape({index: array.shape for index, array in enumerate(inputs(case).values())})
    if case.precision != "int8":
        found["from ONNX"] = core.read_model(artifacts(case.model) / f"{case.shape}.onnx")
    return found


def compile_model(model: ov.Model, hint: str, threads: int) -> ov.CompiledModel:
    return ov.compile_model(model, "CPU", settings(hint, threads))


def settings(hint: str, threads: int) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": hint,
    }


def bind(compiled: ov.CompiledModel, arrays: dict[str, np.ndarray]) -> Call:
    request = compiled.create_infer_request()
    for index, array in enumerate(arrays.values()):
        request.set_input_tensor(index, ov.Tensor(array))  # a copy: the request keeps it

    def call() -> np.ndarray:
        request.infer()
        return request.get_output_tensor(0).data

    return call


def from_torch(model: str) -> Path:
    """The model with attention whole, which OpenVINO has a kernel for, and a dynamic batch and length."""

    def make(folder: Path) -> None:
        from ..reference import tensors, torch_model

        save(
            ov.convert_model(torch_model(model), example_input=tensors(model, "1" if model == "mlp" else "1x32")),
            folder,
        )

    return made(artifacts(model) / f"torch-{artifact_key(version(VERSION_OF))}", make) / "model.xml"


def quantized(model: str, preset: str) -> Path:
    """The model after NNCF. Raises ImportError where it is not installed."""
    import nncf

    def make(folder: Path) -> None:
        result = nncf.quantize(
            ov.Core().read_model(from_torch(model)), nncf.Dataset(calibration(model)),
            model_type=nncf.ModelType.TRANSFORMER, preset=nncf.QuantizationPreset(preset), subset_size=256,
        )  # fmt: skip
        save(result, folder)

    key = artifact_key(version(VERSION_OF), nncf.__version__, preset)
    return made(artifacts(model) / f"int8-{key}", make) / "model.xml"


def save(model: ov.Model, folder: Path) -> None:
    """model.xml and model.bin in a new folder, in float32."""
    folder.mkdir()
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)


def calibration(model: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """ids and mask, int64 [1, tokens], of each calibration sentence."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model_folder(model) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    lines = (artifacts(model) / "calibrate.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [np.array([tokenizer.encode(json.loads(line)["text"]).ids], np.int64) for line in lines]
    return [(row, np.ones_like(row)) for row in rows]


def streams(
    model: str, precision: str, threads: int, variant: str, shapes: Sequence[tuple[int, int]] | None
) -> dict[str, Run]:
    """One model of dynamic shapes where there are no buckets, else a static one for each."""
    core = ov.Core()
    source = core.read_model(quantized(model, "mixed") if precision == "int8" else from_torch(model))
    hint = HINTS[precision][-1]
    if shapes is None:
        source.reshape({0: [-1, -1], 1: [-1, -1]})
        request = compile_model(source, hint, threads).create_infer_request()
        return {"dynamic": partial(run, {None: request})}
    requests: dict[tuple[int, int] | None, ov.InferRequest] = {}
    for shape in shapes:
        source.reshape({0: list(shape), 1: list(shape)})
        requests[shape] = compile_model(source, hint, threads).create_infer_request()
    return {"static": partial(run, requests)}


def run(requests: dict[tuple[int, int] | None, ov.InferRequest], ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    request = requests.get(ids.shape) or requests[None]  # type: ignore[arg-type]
    request.set_input_tensor(0, ov.Tensor(ids, shared_memory=True))
    request.set_input_tensor(1, ov.Tensor(mask, shared_memory=True))
    request.infer()
    return request.get_output_tensor(0).data.copy()


def isa(call: Call) -> str:
    """What the executed graph says of its products."""
    if call not in _compiled:
        return ""
    kinds: Counter[str] = Counter()
    for node in _compiled[call].get_runtime_model().get_ops():
        info = node.get_rt_info()
        layer = str(info["layerType"].astype(str)) if "layerType" in info else ""
        if layer in ("FullyConnected", "MatMul", "Subgraph", "ScaledDotProductAttention", "MHA"):
            kinds[f"{layer} {info['primitiveType'].astype(str)}"] += 1
    return ", ".join(f"{n} {name}" for name, n in sorted(kinds.items()))
