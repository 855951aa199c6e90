"""IREE: compiled for this CPU, with and without its microkernels, whichever is faster; the local-task driver."""

# pyright: basic, reportMissingImports=false
# (the peers come with `make bench` only)

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from iree import runtime

from ..cases import Case, inputs
from . import Call, fastest

VERSION_OF = "iree-base-compiler"
SETTINGS = {
    "": "llvm-cpu for this host, O3 (data tiling), local-task; with microkernels or without, whichever is faster; "
    "stack limit raised to 128 KiB, without which 128 tokens do not compile"
}
FLAGS = {
    "generated kernels": ["--iree-opt-level=O3"],
    "microkernels": ["--iree-opt-level=O3", "--iree-llvmcpu-enable-ukernels=all"],
}


def open_case(case: Case, folder: Path, threads: int, variant: str) -> tuple[Call, str]:
    runtime.flags.parse_flags(f"--task_topology_group_count={threads}")
    source = folder / f"{case.name}.mlir"
    run("iree-import-onnx", str(folder / f"{case.name}.onnx"), "-o", str(source), "--opset-version", "17")
    config = runtime.Config("local-task")
    calls: dict[str, Call] = {}
    for number, (name, flags) in enumerate(FLAGS.items()):
        module = folder / f"{case.name}.{number}.vmfb"
        run(
            "iree-compile", str(source), "-o", str(module), "--iree-hal-target-device=local",
            "--iree-hal-local-target-device-backends=llvm-cpu", "--iree-llvmcpu-target-cpu=host",
            "--iree-llvmcpu-stack-allocation-limit=131072", *flags,
        )  # fmt: skip
        calls[name] = bind(config, module, case)
    source.unlink()
    return fastest(calls)


def bind(config: runtime.Config, file: Path, case: Case) -> Call:
    context = runtime.SystemContext(config=config)
    module = runtime.VmModule.mmap(config.vm_instance, str(file))
    context.add_vm_module(module)
    function = context.modules[module.name]["main_graph"]
    arguments = [runtime.asdevicearray(config.device, array) for array in inputs(case).values()]
    return lambda: np.asarray(function(*arguments).to_host())


def run(program: str, *arguments: str) -> None:
    """One of IREE's programs. Raises RuntimeError with the end of what it said."""
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{program} failed: {done.stderr.strip()[-400:]}")
