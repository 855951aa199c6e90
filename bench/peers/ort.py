"""onnxruntime, as it comes and with its own transformer fusions, float32 and with its own dynamic int8 quantizer."""

# pyright: basic, reportMissingImports=false
# (the peers come with `make bench` only)

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
import onnxruntime as ort

from ..artifacts import artifact_key, made
from ..cases import Case
from ..models import ENCODERS, artifacts, output_of
from . import Call, Run, inputs, ort_c

VERSION_OF = "onnxruntime"
COMMON = (
    "static ONNX, all graph optimizations, sequential, spinning allowed; inputs and outputs bound, RunWithBinding in a "
)
COMMON += "loop in C; `fused`: after onnxruntime.transformers.optimizer (bert)"
SETTINGS = {
    "float32": COMMON,
    "int8": COMMON
    + "; quantize_dynamic of every product with constant weights, signed weights, full range; per channel "
    "or per tensor, whichever is faster and exact enough",
}
FLOAT = 1
"""ONNX's number for it: the type of what shape inference cannot see through (the fused operators' outputs)."""

QUANTIZERS = {"per channel": True, "per tensor": False}


def candidates(case: Case, threads: int, variant: str) -> dict[str, Call]:
    return {
        name: ort_c.bind(file, inputs(case), output_of(case), threads)
        for name, file in files(case.model, case.shape, case.precision, variant).items()
    }


def files(model: str, shape: str, precision: str, variant: str) -> dict[str, Path]:
    """The ONNX files to try, by name; `shape` may be `dynamic`."""
    source = artifacts(model) / f"{shape}.onnx"
    if variant == "fused":
        source = fuse(model, source)
    if precision == "float32":
        return {"": source}
    return {name: quantize(source, per_channel) for name, per_channel in QUANTIZERS.items()}


def fuse(model: str, source: Path) -> Path:
    """The fused model's file."""

    def make(file: Path) -> None:
        from onnxruntime.transformers import optimizer

        encoder = ENCODERS[model]
        fused = optimizer.optimize_model(
            str(source), "bert", num_heads=encoder.heads, hidden_size=encoder.hidden, opt_level=0
        )
        counts = fused.get_fused_operator_statistics()
        if not counts.get("Attention") and not counts.get("MultiHeadAttention"):
            raise RuntimeError(f"onnxruntime.transformers.optimizer fused no attention: {counts}")
        fused.save_model_to_file(str(file))

    return made(source.with_name(f"{source.stem}-fused-{artifact_key(ort.__version__)}.onnx"), make)


def quantize(source: Path, per_channel: bool) -> Path:
    """The dynamically quantized model's file."""

    def make(file: Path) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        logging.disable(logging.WARNING)
        quantize_dynamic(
            source, file, per_channel=per_channel, reduce_range=False, weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm", "Attention"], extra_options={"MatMulConstBOnly": True, "DefaultTensorType": FLOAT},
        )  # fmt: skip

    key = artifact_key(ort.__version__, str(per_channel))
    return made(source.with_name(f"{source.stem}-int8-{key}.onnx"), make)


@cache
def open_session(file: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def streams(
    model: str, precision: str, threads: int, variant: str, shapes: Sequence[tuple[int, int]] | None
) -> dict[str, Run]:
    """One session of the dynamic model for all ways: it takes every shape at full speed, and buckets only pad more."""
    sessions = {name: open_session(file, threads) for name, file in files(model, "dynamic", precision, variant).items()}
    return {name: partial(run, session) for name, session in sessions.items()}


def run(session: ort.InferenceSession, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.asarray(session.run(None, {"input_ids": ids, "attention_mask": mask})[0])
