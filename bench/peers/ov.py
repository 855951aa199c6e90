"""OpenVINO: static shapes, the LATENCY hint; from ONNX or from torch, whichever is faster."""

# pyright: basic, reportMissingImports=false
# (the peers come with `make bench` only)

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov

from ..cases import Case, inputs
from . import Call, fastest

VERSION_OF = "openvino"
SETTINGS = {"": "static shapes, LATENCY hint, one stream, f32; from ONNX or from torch, whichever is faster"}


def open_case(case: Case, folder: Path, threads: int, variant: str) -> tuple[Call, str]:
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    models = {"from ONNX": ov.convert_model(folder / f"{case.name}.onnx"), "from torch": from_torch(case)}
    return fastest({name: bind(ov.compile_model(model, "CPU", config), case) for name, model in models.items()})


def bind(compiled: ov.CompiledModel, case: Case) -> Call:
    request = compiled.create_infer_request()
    for index, array in enumerate(inputs(case).values()):
        request.set_input_tensor(index, ov.Tensor(array))  # a copy: the request keeps it

    def call() -> np.ndarray:
        request.infer()
        return request.get_output_tensor(0).data

    return call


def from_torch(case: Case) -> ov.Model:
    """The model with attention whole, which OpenVINO has a kernel for."""
    from ..reference import Embedder, tensors

    shape = [case.batch, case.tokens]
    model = ov.convert_model(Embedder("sdpa").eval(), example_input=tensors(case))
    model.reshape({0: shape, 1: shape})
    return model
