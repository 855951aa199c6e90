"""onnxruntime, as it comes and with its own transformer fusions."""

# pyright: basic, reportMissingImports=false
# (the peers come with `make bench` only)

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort

from ..cases import MODEL, Case, inputs
from . import Call

VERSION_OF = "onnxruntime"
SETTINGS = {
    "plain": "static ONNX, all graph optimizations, sequential, spinning allowed, outputs bound",
    "fused": "the same after onnxruntime.transformers.optimizer (bert)",
}


def open_case(case: Case, folder: Path, threads: int, variant: str) -> tuple[Call, str]:
    file, note = folder / f"{case.name}.onnx", ""
    if variant == "fused":
        file, note = fuse(file)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, array in inputs(case).items():
        binding.bind_cpu_input(name, array)
    binding.bind_output("embedding", "cpu")

    def call() -> np.ndarray:
        session.run_with_iobinding(binding)
        return binding.get_outputs()[0].numpy()

    return call, note


def fuse(file: Path) -> tuple[Path, str]:
    """The fused model's file, and which fusions took place."""
    from onnxruntime.transformers import optimizer

    config = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
    model = optimizer.optimize_model(
        str(file), "bert", num_heads=config["num_attention_heads"], hidden_size=config["hidden_size"], opt_level=0
    )
    fused = file.with_suffix(".fused.onnx")
    model.save_model_to_file(str(fused))
    counts = {name: n for name, n in model.get_fused_operator_statistics().items() if n}
    return fused, ", ".join(f"{n} {name}" for name, n in counts.items())
