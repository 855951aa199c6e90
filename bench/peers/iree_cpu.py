"""IREE: compiled for this CPU, with and without its microkernels, whichever is faster; the local-task driver."""

# pyright: basic, reportMissingImports=false
# (the peers come with `make bench` only)

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from iree import runtime

from ..artifacts import artifact_key, made
from ..cases import Case
from ..machine import cpu_flags
from ..models import artifacts
from . import Call, Run, inputs

VERSION_OF = "iree-base-compiler"
SETTINGS = {
    "float32": "llvm-cpu for this host, O3 (data tiling), local-task; with microkernels or without, whichever is faster; "
    "stack limit raised to 128 KiB, without which 128 tokens do not compile; called from Python"
}
FLAGS = {
    "generated kernels": ["--iree-opt-level=O3"],
    "microkernels": ["--iree-opt-level=O3", "--iree-llvmcpu-enable-ukernels=all"],
}


def candidates(case: Case, threads: int, variant: str) -> dict[str, Call]:
    runtime.flags.parse_flags(f"--task_topology_group_count={threads}")
    config = runtime.Config("local-task")
    return {name: bind(config, compile_shape(case.model, case.shape, flags), case) for name, flags in FLAGS.items()}


def compile_shape(model: str, shape: str, flags: list[str]) -> Path:
    """The compiled module, kept for this host's CPU and this compiler."""
    folder = artifacts(model)
    key = artifact_key(*flags, version(VERSION_OF), " ".join(sorted(cpu_flags())))

    def make(file: Path) -> None:
        source = file.with_suffix(".mlir")
        command("iree-import-onnx", str(folder / f"{shape}.onnx"), "-o", str(source), "--opset-version", "17")
        try:
            command(
                "iree-compile", str(source), "-o", str(file), "--iree-hal-target-device=local",
                "--iree-hal-local-target-device-backends=llvm-cpu", "--iree-llvmcpu-target-cpu=host",
                "--iree-llvmcpu-stack-allocation-limit=131072", *flags,
            )  # fmt: skip
        finally:
            source.unlink()

    return made(folder / f"{shape}-{key}.vmfb", make)


def bind(config: runtime.Config, file: Path, case: Case) -> Call:
    function = open_module(config, file)
    arguments = [runtime.asdevicearray(config.device, array) for array in inputs(case).values()]
    return lambda: np.asarray(function(*arguments).to_host())


def open_module(config: runtime.Config, file: Path) -> Callable[..., Any]:
    context = runtime.SystemContext(config=config)
    module = runtime.VmModule.mmap(config.vm_instance, str(file))
    context.add_vm_module(module)
    return context.modules[module.name]["main_graph"]


def streams(
    model: str, precision: str, threads: int, variant: str, shapes: Sequence[tuple[int, int]] | None
) -> dict[str, Run]:
    """A module for each bucket; only shapes that are known beforehand."""
    if shapes is None:
        raise ValueError("static shapes only")
    runtime.flags.parse_flags(f"--task_topology_group_count={threads}")
    config = runtime.Config("local-task")
    found: dict[str, Run] = {}
    for name, flags in FLAGS.items():
        modules = {s: open_module(config, compile_shape(model, f"{s[0]}x{s[1]}", flags)) for s in shapes}
        found[name] = partial(run, modules)
    return found


def run(modules: dict[tuple[int, int], Callable[..., Any]], ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.asarray(modules[ids.shape](ids, mask).to_host())  # type: ignore[index]


def command(program: str, *arguments: str) -> None:
    """One of IREE's programs. Raises RuntimeError with the end of what it said."""
    words = [str(Path(sys.executable).with_name(program)), *arguments]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{program} failed: {done.stderr.strip()[-400:]}")
